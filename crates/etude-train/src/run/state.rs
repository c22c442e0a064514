//! `state.json`: everything besides the weights that a run needs to go on as if it had never stopped.

use super::numbers;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The layout of `state.json` this program writes and reads.
pub const STATE_VERSION: u32 = 2;

/// The state of a run at the end of a step. What the étude itself keeps stands in files beside it.
///
/// A run is a sequence of loops, each over steps or over the epochs of a loader. Numbers come back bit for bit, NaN and
/// infinities included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Layout, [`STATE_VERSION`].
    pub version: u32,
    /// Steps done, over all loops.
    pub step: u64,
    /// The random generator's position at the end of each finished loop.
    #[serde(default)]
    pub finished: Vec<u64>,
    /// Steps done in the loop that runs; 0 between two loops.
    #[serde(default)]
    pub loop_step: u64,
    /// Epochs completed in the loop that runs.
    #[serde(default)]
    pub epoch: u64,
    /// Batches already given out in the epoch that runs; with the seed and the epoch it fixes the next one.
    #[serde(default)]
    pub batch: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Position of the counter-based random generator.
    #[serde(default)]
    pub random_counter: u64,
    /// Running sums that the figures beside the bar are made of, so that a resumed epoch reports what an unbroken one
    /// does.
    #[serde(default, with = "numbers::map")]
    pub sums: BTreeMap<String, f64>,
    /// How many examples each sum is over.
    #[serde(default, with = "numbers::map")]
    pub weights: BTreeMap<String, f64>,
    /// Lines of `metrics.jsonl` written so far; those after them are dropped by a resumed run, which writes them again.
    #[serde(default)]
    pub records: u64,
    /// Seconds of training so far, over all sittings.
    #[serde(default, with = "numbers")]
    pub seconds: f64,
}

impl State {
    /// The state before the first step.
    pub fn new(seed: u64) -> Self {
        Self {
            version: STATE_VERSION,
            step: 0,
            finished: Vec::new(),
            loop_step: 0,
            epoch: 0,
            batch: 0,
            seed,
            random_counter: 0,
            sums: BTreeMap::new(),
            weights: BTreeMap::new(),
            records: 0,
            seconds: 0.0,
        }
    }

    /// The text of `state.json`.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a struct of numbers and strings is always JSON");
        text.push('\n');
        text
    }

    /// Reads what [`State::to_json`] wrote; `path` is only named in errors.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let broken = |e: serde_json::Error| {
            Error::at(path, format!("not a state file: {e}")).remedy("resume from another checkpoint")
        };
        // The version first: a newer layout need not parse as this one.
        let Version { version } = serde_json::from_str(text).map_err(broken)?;
        if version != STATE_VERSION {
            return Err(Error::at(path, format!("state version {version}, this program reads {STATE_VERSION}"))
                .remedy("resume with the étude that wrote it"));
        }
        serde_json::from_str(text).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> State {
        let mut state = State::new(u64::MAX);
        state.step = 120;
        (state.loop_step, state.epoch, state.batch) = (20, 1, 10);
        state.finished = vec![3, u64::MAX];
        state.random_counter = u64::MAX - 1;
        state.sums.insert("loss".into(), 0.1 + 0.2);
        state.sums.insert("smallest".into(), f64::from_bits(1));
        state.weights.insert("lowest".into(), f64::NEG_INFINITY);
        state
    }

    #[test]
    fn every_bit_survives() {
        let state = full();
        let read = State::from_json(&state.to_json(), Path::new("s")).unwrap();
        assert_eq!(read, state);
        let mut odd = state;
        odd.seconds = f64::NAN;
        assert!(State::from_json(&odd.to_json(), Path::new("s")).unwrap().seconds.is_nan());
    }

    #[test]
    fn newer_torn_and_foreign_files_are_refused() {
        let newer = full().to_json().replace("\"version\": 2", "\"version\": 3").replace("step", "steps");
        let error = State::from_json(&newer, Path::new("c/state.json")).unwrap_err().to_string();
        assert!(error.starts_with("c/state.json: state version 3, this program reads 2; "), "{error}");
        let text = full().to_json();
        for cut in 0..text.len() - 2 {
            assert!(State::from_json(&text[..cut], Path::new("s")).is_err());
        }
        let foreign = text.replace("\"-inf\"", "\"many\"");
        assert!(State::from_json(&foreign, Path::new("s")).unwrap_err().to_string().contains("lowest"));
    }
}
