//! `etude list --page`: the page of all études. What they are comes from the table of études, what they reached from run
//! folders; where there is no run, what the page said before stays, unless other numbers are claimed now.

use crate::commands::print;
use etude::train::run::{RunFolder, Status, runs};
use etude::train::{Bound, Claim, units};
use etude::{Error, Result};
use etude_studies::{Study, studies};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const HEAD: &str = "\
# Études

Written by `etude list --page docs/etudes.md --runs runs`, which takes the results from finished runs below `runs`; a test
holds the rest to the program. A result is what a run with the defaults and seed 1 measured beside what it claims; `etude
check NAME` does it again, `etude check NAME --quick` in less than a minute with claims of its own. Claim knobs are the
numbers claimed; `--set` changes them. Times and memory (the most the process held) are of a machine with two cores, which
many of the runs shared with other work: a time is the most that the run takes there.
";

/// Columns of a table on the page.
const COLUMNS: [&str; 6] = ["étude", "what it shows", "claim knobs", "result", "time", "memory"];

/// Prints the page, with the results of `page` as it is now and of the runs below `folder`.
pub fn page(page: &Path, folder: Option<&Path>) -> Result<ExitCode> {
    let before = match std::fs::read_to_string(page) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::io(page, "cannot read", error)),
    };
    let runs = folder.map(runs).unwrap_or_default();
    let mut text = HEAD.to_string();
    let mut chapters: Vec<&str> = Vec::new();
    for [chapter, _] in studies().iter().map(|study| (study.place)()) {
        if !chapters.contains(&chapter) {
            chapters.push(chapter);
        }
    }
    for chapter in chapters {
        text += &format!("\n## {}\n\n", capital(chapter));
        text += &format!("| {} |\n|{}\n", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
        for study in studies().iter().filter(|study| (study.place)()[0] == chapter) {
            let known = known(study);
            let results = match result(study, &runs)? {
                Some(new) => new,
                None => kept(&before, &known).unwrap_or(["not run yet".into(), String::new(), String::new()]),
            };
            text += &format!("| {} | {} |\n", known.join(" | "), results.join(" | "));
        }
    }
    print(&text)
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_uppercase() + rest
}

/// What is known without a run: name, idea and source, claim knobs.
fn known(study: &Study) -> [String; 3] {
    let [chapter, file] = (study.place)();
    let link = format!("[{}](../crates/etude-studies/src/{chapter}/{file}.rs)", study.name);
    let knobs = (study.knobs)();
    let claims = knobs.iter().filter(|knob| knob.name.starts_with("claim"));
    let claims: Vec<String> = claims.map(|knob| format!("`{}={}`", knob.name, knob.default)).collect();
    [link, cell(&format!("{} ({})", study.title, study.source)), claims.join("<br>")]
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Result, time and memory of the newest finished full run of a study with its defaults and seed 1.
fn result(study: &Study, runs: &[RunFolder]) -> Result<Option<[String; 3]>> {
    let defaults = (study.config)(&etude_studies::Settings::default())?;
    for run in runs.iter().rev() {
        let about = run.about();
        let whole = about.status == Status::Finished && !about.quick && about.seed == 1;
        if about.study != study.name || !whole || run.config()? != defaults {
            continue;
        }
        let Some(report) = run.report()? else { continue };
        let claim = |claim: &Claim| {
            let broken = if claim.held { "" } else { " **broken**" };
            let exact = claim.held && matches!(claim.bound, Bound::Exactly(_));
            let value = if exact { String::new() } else { format!(": {}", claim.style.text(claim.value)) };
            cell(&format!("{}{value}{broken}", claim.demand()))
        };
        let time = about.seconds.map_or(String::new(), |s| units::duration(Duration::from_secs_f64(s.max(0.0))));
        let memory = about.memory.map_or(String::new(), units::bytes);
        return Ok(Some([report.claims.iter().map(claim).collect::<Vec<_>>().join("<br>"), time, memory]));
    }
    Ok(None)
}

/// The results that `page` has in the row that begins like this one: the same étude, the same numbers claimed.
fn kept(page: &str, [link, _, claims]: &[String; 3]) -> Option<[String; 3]> {
    page.lines().find_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [first, _, knobs, result, time, memory] = cells[..] else { return None };
        (first == link && knobs == claims).then(|| [result, time, memory].map(String::from))
    })
}
