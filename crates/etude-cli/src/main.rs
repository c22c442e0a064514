//! The program `etude`: lists, shows, runs and checks études; reads data sets and finished runs.

#![forbid(unsafe_code)]

mod bench;
mod commands;
mod data;
mod page;
mod run;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Deep learning, one étude at a time.
#[derive(Parser)]
#[command(name = "etude", version, about, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List every étude
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Print the page of all études instead; results that no run gives are taken from this file
        #[arg(long, value_name = "FILE", conflicts_with = "json")]
        page: Option<PathBuf>,
        /// Results for the page: finished runs below this folder
        #[arg(long, value_name = "DIR", requires = "page")]
        runs: Option<PathBuf>,
    },
    /// Show an étude: what it teaches, its knobs, its source
    Show {
        /// The étude's name
        name: String,
        /// Print the whole source text
        #[arg(long)]
        source: bool,
    },
    /// Run an étude
    Run(run::RunOptions),
    /// Run études and fail unless every claim holds
    Check {
        /// The études' names
        names: Vec<String>,
        /// Check every étude
        #[arg(long, conflicts_with = "names")]
        all: bool,
        #[command(flatten)]
        options: run::Options,
    },
    /// Go on with a run that was stopped
    Resume {
        /// The run's folder
        run: PathBuf,
        #[command(flatten)]
        how: run::How,
    },
    /// Ask a finished run about a file
    Predict {
        /// The run's folder
        run: PathBuf,
        /// The file, such as a picture of a digit
        file: PathBuf,
    },
    /// Print the layers of an étude's models
    Summary {
        /// The étude's name
        name: String,
        /// Set a knob: name=value
        #[arg(long = "set", value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Time training steps of thirteen models, or the machine itself
    Bench(bench::BenchOptions),
    /// Data sets: list, info NAME, path
    Data {
        #[command(subcommand)]
        command: data::DataCommand,
    },
}

fn main() -> ExitCode {
    // A reader that went away (`etude list | head`) is not a reason to panic.
    let result = match Program::parse().command {
        Command::List { page: Some(page), runs, .. } => page::page(&page, runs.as_deref()),
        Command::List { json, .. } => commands::list(json),
        Command::Show { name, source } => commands::show(&name, source),
        Command::Run(options) => run::run(&options),
        Command::Check { names, all, options } => run::check(&names, all, &options),
        Command::Resume { run, how } => run::resume(&run, &how),
        Command::Predict { run, file } => commands::predict(&run, &file),
        Command::Summary { name, set } => commands::summary(&name, &set),
        Command::Bench(options) => bench::bench(&options),
        Command::Data { command } => data::data(&command),
    };
    if let Some(times) = etude::core::time_report() {
        eprint!("{times}");
    }
    match result {
        Ok(code) => code,
        Err(error) if error.is_interrupted() => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
