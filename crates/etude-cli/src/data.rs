//! `etude data`: the bundled data sets, and what a folder of one's own holds.

use crate::commands::print;
use clap::Subcommand;
use etude::Result;
use etude::data::{Dataset, Info, bundled, load, load_from, load_text};
use etude::train::units::grouped;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum DataCommand {
    /// List the bundled data sets
    List,
    /// Show a bundled data set, or what a folder holds
    Info {
        /// A bundled set's name, or a folder
        name: String,
    },
    /// Say where a data set comes from and which files it is made of
    Path {
        /// A bundled set's name, or a folder
        name: PathBuf,
    },
}

pub fn data(command: &DataCommand) -> Result<ExitCode> {
    match command {
        DataCommand::List => {
            let width = bundled().iter().map(|info| info.name.len()).max().unwrap_or(0);
            let line = |info: &Info| {
                format!(
                    "{:<width$}  {:>6}  {}   {}\n",
                    info.name,
                    grouped(info.examples as u64),
                    info.title,
                    info.licence
                )
            };
            print(&bundled().iter().map(line).collect::<String>())
        }
        DataCommand::Info { name } => {
            let folder = PathBuf::from(name);
            match bundled().iter().find(|info| info.name == name) {
                Some(info) if info.is_text() => return print(&describe_text(info, &load_text(name)?)),
                None if folder.exists() => {}
                _ => return print(&describe(&load(name)?)),
            }
            let found = load_from(&folder)?;
            let test = found.test.as_ref().map_or(String::new(), |test| format!("\ntest part\n{}", describe(test)));
            print(&(describe(&found.train) + &test))
        }
        DataCommand::Path { name } => {
            let text = name.to_string_lossy();
            if let Some(info) = bundled().iter().find(|info| info.name == text) {
                let files: Vec<String> = info.files.iter().map(|file| format!("data/{}\n", file.name)).collect();
                return print(&format!(
                    "{} is carried inside this program; in the repository it is\n{}",
                    info.name,
                    files.concat()
                ));
            }
            let found = load_from(name)?;
            print(&format!("{}: {} examples\n", name.display(), grouped(found.train.len() as u64)))
        }
    }
}

fn describe(set: &Dataset) -> String {
    let mut text = format!("name      {}\nexamples  {}\n", set.name, grouped(set.len() as u64));
    text += &format!("shape     {:?}\n", set.input_shape());
    // A folder of the user's own says nothing of these.
    for (what, value) in [("licence", &set.licence), ("source", &set.source)] {
        if !value.is_empty() {
            text += &format!("{what:<9} {value}\n");
        }
    }
    let width = set.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0).max(7);
    text += "classes\n";
    for (class, count) in set.classes.iter().zip(set.class_counts()) {
        text += &format!("  {class:<width$}  {:>6}\n", grouped(count as u64));
    }
    text
}

fn describe_text(info: &Info, contents: &str) -> String {
    let mut characters: Vec<char> = contents.chars().collect();
    let count = characters.len();
    characters.sort_unstable();
    characters.dedup();
    let (name, licence, authors, source) = (info.name, info.licence, info.authors, info.source);
    format!(
        "name        {name}\npieces      {}\ncharacters  {}, {} different\nlines       {}\nlicence     {licence}\nsource      {authors}; {source}\n",
        grouped(info.examples as u64),
        grouped(count as u64),
        characters.len(),
        grouped(contents.lines().count() as u64),
    )
}
