//! `state.json`: everything besides the weights that a run needs to go on as if it had never stopped.

use super::numbers;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The layout of `state.json` this program writes. Older ones stay readable; newer ones are refused.
pub const STATE_VERSION: u32 = 1;

/// Where the data loader stands: the next batch to give out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoaderPosition {
    /// Epoch the loader is in, from 0; with the seed it fixes the order of the examples.
    pub epoch: u64,
    /// Batches already given out in this epoch.
    pub batch: u64,
}

/// The best value of the watched metric so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Name of the metric, such as `valid/accuracy`.
    pub metric: String,
    /// Its value.
    #[serde(with = "numbers")]
    pub value: f64,
    /// The step it was reached at.
    pub step: u64,
}

/// The state of a run at the end of a step.
///
/// Numbers come back bit for bit, NaN and infinities included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Layout, [`STATE_VERSION`] when written by this program.
    pub version: u32,
    /// Optimiser steps done.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Next batch.
    #[serde(default)]
    pub loader: LoaderPosition,
    /// Seed of the run.
    pub seed: u64,
    /// Position of the counter-based random generator.
    #[serde(default)]
    pub random_counter: u64,
    /// Scalars of the optimisers by name, such as `adam.step`; tensors go to the safetensors files.
    #[serde(default, with = "numbers::map")]
    pub optimiser: BTreeMap<String, f64>,
    /// Scalars of the schedules and callbacks by name, such as `plateau.waited`.
    #[serde(default, with = "numbers::map")]
    pub schedule: BTreeMap<String, f64>,
    /// Running sums that the epoch's figures are made of, so that a resumed epoch reports what an unbroken one does.
    #[serde(default, with = "numbers::map")]
    pub sums: BTreeMap<String, f64>,
    /// Best value so far of the watched metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
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
            epoch: 0,
            loader: LoaderPosition::default(),
            seed,
            random_counter: 0,
            optimiser: BTreeMap::new(),
            schedule: BTreeMap::new(),
            sums: BTreeMap::new(),
            best: None,
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
        if version > STATE_VERSION || version == 0 {
            return Err(Error::at(path, format!("state version {version}, this program reads 1 to {STATE_VERSION}"))
                .remedy("resume with the étude that wrote it, or a newer one"));
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
        state.epoch = 1;
        state.loader = LoaderPosition { epoch: 1, batch: 10 };
        state.random_counter = u64::MAX - 1;
        state.optimiser.insert("adam.rate".into(), 0.1 + 0.2);
        state.optimiser.insert("smallest".into(), f64::from_bits(1));
        state.schedule.insert("plateau.best".into(), f64::NEG_INFINITY);
        state.best = Some(Best { metric: "valid/loss".into(), value: f64::INFINITY, step: 3 });
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
        let newer = full().to_json().replace("\"version\": 1", "\"version\": 2").replace("step", "steps");
        let error = State::from_json(&newer, Path::new("c/state.json")).unwrap_err().to_string();
        assert!(error.starts_with("c/state.json: state version 2, this program reads 1 to 1; "), "{error}");
        let text = full().to_json();
        for cut in 0..text.len() - 2 {
            assert!(State::from_json(&text[..cut], Path::new("s")).is_err());
        }
        let foreign = text.replace("\"-inf\"", "\"many\"");
        assert!(State::from_json(&foreign, Path::new("s")).unwrap_err().to_string().contains("plateau.best"));
    }
}
