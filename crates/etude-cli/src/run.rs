//! `etude run`, `check` and `resume`.

use crate::commands::print;
use clap::Args;
use etude::train::{Report, Run, Session, interrupt};
use etude::{Error, Result};
use etude_studies::{Settings, Study, find, studies};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How a run goes about its work.
#[derive(Args, Clone)]
pub struct How {
    /// Read data from this folder instead of the bundled sets
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Threads to use; by default what ETUDE_THREADS says, or one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Print the report as JSON and nothing else
    #[arg(long)]
    json: bool,
    /// Seconds between checkpoints within an epoch; 0 saves every step
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    save_every: u64,
}

/// What a run starts from.
#[derive(Args, Clone)]
pub struct Options {
    /// Set a knob: name=value (etude show NAME lists them)
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Where all randomness starts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A run of a minute at most, with claims of its own
    #[arg(long)]
    quick: bool,
    /// Folder for run folders
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
    #[command(flatten)]
    how: How,
}

/// Options of `etude run`.
#[derive(Args)]
pub struct RunOptions {
    /// The étude's name
    name: String,
    #[command(flatten)]
    options: Options,
}

pub fn run(options: &RunOptions) -> Result<ExitCode> {
    let study = find(&options.name)?;
    let report = start(study, &options.options)?;
    Ok(if report.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn check(names: &[String], all: bool, options: &Options) -> Result<ExitCode> {
    let chosen: Vec<&Study> = match all {
        true => studies().iter().collect(),
        false => names.iter().map(|name| find(name)).collect::<Result<_>>()?,
    };
    if chosen.is_empty() {
        return Err(Error::new("nothing to check").remedy("name études, or say --all"));
    }
    let mut failed = Vec::new();
    for study in &chosen {
        match start(study, options) {
            Ok(report) if report.held() => (),
            Ok(_) => failed.push(format!("{}: a claim does not hold", study.name)),
            Err(error) if error.is_interrupted() => return Err(error),
            Err(error) => failed.push(format!("{}: {error}", study.name)),
        }
    }
    if !options.how.json {
        print(&format!(
            "\n{} études checked, {} held, {} failed\n",
            chosen.len(),
            chosen.len() - failed.len(),
            failed.len()
        ))?;
    }
    failed.iter().for_each(|line| eprintln!("failed  {line}"));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn resume(path: &Path, how: &How) -> Result<ExitCode> {
    let (run, restored) = Run::resume(path)?;
    let about = run.folder().about().clone();
    let study = find(&about.study)?;
    let config = run.folder().config()?;
    if !how.json {
        let from = restored.as_ref().map_or("the start".into(), |(state, _)| format!("step {}", state.step));
        println!("resume  {} from {from}", path.display());
    }
    let session = Session::new(run, restored, about.seed);
    let report = sit(study, &config, session, how)?;
    Ok(if report.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts a new run of `study`.
fn start(study: &Study, options: &Options) -> Result<Report> {
    let config = (study.config)(&Settings { set: options.set.clone(), quick: options.quick })?;
    let run = Run::create(&options.out, study.name, &config, options.seed, options.quick)?;
    sit(study, &config, Session::new(run, None, options.seed), &options.how)
}

/// One sitting: from wherever the session stands to the report.
fn sit(study: &Study, config: &str, session: Session, how: &How) -> Result<Report> {
    etude::core::set_threads(how.threads.unwrap_or(0) as usize);
    interrupt::install()?;
    let mut session =
        session.data_from(how.data.clone()).quiet(how.json).save_every(Duration::from_secs(how.save_every));
    session.say(format!("{}   {}   {}", study.name, study.title, study.source));
    let path = session.path().to_path_buf();
    let report = (study.run)(config, &mut session).and_then(|report| session.heed().map(|()| report));
    let mut report = match report {
        Ok(report) => report,
        Err(error) => {
            let stopped = error.is_interrupted();
            session.into_run().interrupt()?;
            if stopped {
                eprintln!("stopped; go on with: etude resume {}", path.display());
            }
            return Err(error);
        }
    };
    session.into_run().finish(&mut report)?;
    if how.json {
        let mut line = serde_json::to_value(&report).map_err(|error| Error::new(error.to_string()))?;
        line["study"] = study.name.into();
        line["run"] = path.display().to_string().into();
        print(&format!("{line}\n"))?;
    } else {
        print(&format!("\n{report}\n"))?;
    }
    Ok(report)
}
