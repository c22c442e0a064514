//! Commands that only read: list, show, predict, summary.

use etude::Result;
use etude::train::RunFolder;
use etude::train::units::grouped;
use etude_studies::{Settings, find, studies};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Writes text to standard output; a reader that went away is no error.
pub fn print(text: &str) -> Result<ExitCode> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

pub fn list(json: bool) -> Result<ExitCode> {
    let width = studies().iter().map(|study| study.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for study in studies() {
        text += &if json {
            let line = serde_json::json!({
                "name": study.name, "title": study.title, "source": study.source, "rows": study.rows,
            });
            format!("{line}\n")
        } else {
            format!("{:<width$}  {}   {}\n", study.name, study.title, study.source)
        };
    }
    print(&text)
}

pub fn show(name: &str, source: bool) -> Result<ExitCode> {
    let study = find(name)?;
    let mut text = format!("{}   {}   {}\nrows  {}\n\n", study.name, study.title, study.source, study.rows.join(" "));
    let [chapter, file] = (study.place)();
    let parts = study.parts.iter().map(|part| (format!("{chapter}/{}", part.path), part.text));
    let files: Vec<(String, &str)> = [(format!("{chapter}/{file}.rs"), study.text)].into_iter().chain(parts).collect();
    if source {
        let listing = |(path, text): &(String, &str)| format!("// crates/etude-studies/src/{path}\n\n{text}");
        return print(&(text + &files.iter().map(listing).collect::<Vec<_>>().join("\n\n")));
    }
    // The lecture is the module's own documentation.
    for line in study.text.lines().map_while(|line| line.strip_prefix("//!")) {
        text += line.strip_prefix(' ').unwrap_or(line);
        text.push('\n');
    }
    let knobs = (study.knobs)();
    let names = knobs.iter().map(|knob| knob.name.len()).max().unwrap_or(0);
    let values = knobs.iter().map(|knob| knob.default.len()).max().unwrap_or(0);
    text += "\nknobs\n";
    for knob in &knobs {
        text += &format!("  {:<names$}  {:>values$}   {}\n", knob.name, knob.default, knob.doc);
    }
    let paths = files.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    text += "\nfiles in crates/etude-studies/src\n";
    for (path, says) in &files {
        // What a file is about is the first sentence of its documentation.
        let about: Vec<&str> = says.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        let about = about.join(" ");
        let end = about.find([':', '.', '(']).unwrap_or(about.len());
        text += &format!("  {path:<paths$}   {}\n", about[..end].trim_end());
    }
    text += &format!("\netude run {name} --set NAME=VALUE    etude show {name} --source\n");
    print(&text)
}

pub fn predict(run: &Path, file: &Path) -> Result<ExitCode> {
    let folder = RunFolder::open(run)?;
    let study = find(&folder.about().study)?;
    let answer = (study.predict)(&folder.config()?, &folder, file)?;
    print(&format!("{answer}\n"))
}

pub fn summary(name: &str, set: &[String]) -> Result<ExitCode> {
    let study = find(name)?;
    let config = (study.config)(&Settings { set: set.to_vec(), quick: false })?;
    let tables = (study.summaries)(&config)?;
    if tables.is_empty() {
        return print(&format!("{name} has no model with a table of layers\n"));
    }
    let total: usize = tables.iter().map(|table| table.total).sum();
    let mut text = tables.iter().map(|table| format!("{table}\n")).collect::<Vec<_>>().join("\n");
    if tables.len() > 1 {
        text += &format!("\nall models together: {} parameters\n", grouped(total as u64));
    }
    print(&text)
}
