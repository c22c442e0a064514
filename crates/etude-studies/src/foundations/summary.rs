//! `summary`: what a model is made of, and what it costs.
//!
//! The notes' music model maps 83 characters to vectors of 256, runs one LSTM of 1,024 units over them and reads the next
//! character off its state. How many numbers is that?
//!
//! ```text
//! Embedding   83·256                    = 21,248
//! LSTM        4·1024·(256 + 1024 + 1)   = 5,246,976     four gates; input, state and one bias each
//! Dense       1024·83 + 83              = 85,075
//! ```
//!
//! (The notes call `4·units` the weights and `units+input+1` the biases; only the product has that meaning.)

use crate::sequence::music::CharacterModel;
use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct SummaryTable {
    /// Characters. [1..1000000]
    pub vocabulary: usize,
    /// Width of a character's vector. [1..16384]
    pub width: usize,
    /// Units of the LSTM. [1..16384]
    pub units: usize,
    /// Sequences a batch. [1..100000]
    pub batch: usize,
    /// Characters a sequence. [1..100000]
    pub length: usize,
}

impl Default for SummaryTable {
    fn default() -> Self {
        Self { vocabulary: 83, width: 256, units: 1024, batch: 32, length: 100 }
    }
}

impl Etude for SummaryTable {
    const NAME: &'static str = "summary";
    const TITLE: &'static str = "layers, shapes and parameters of the notes' music model";
    const SOURCE: &'static str = "Hochreiter and Schmidhuber, 1997";
    const ROWS: &'static [&'static str] = &["O6", "S12"];
    const TEXT: &'static str = include_str!("summary.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let summary = self.summaries().remove(0);
        session.say(summary.to_string());
        let (v, w, u) = (self.vocabulary as f64, self.width as f64, self.units as f64);
        let wanted = [v * w, 4.0 * u * (u + w + 1.0), u * v + v];
        let mut report = Report::new();
        for (row, wanted) in summary.rows.iter().zip(wanted) {
            report.claim(Claim::exactly(format!("parameters of {}", row.name), row.parameters as f64, wanted));
        }
        report.claim(Claim::exactly("total parameters", summary.total as f64, wanted.iter().sum()));
        let megabytes = (summary.bytes as f64 / (1 << 20) as f64 * 100.0).round() / 100.0;
        if self.units == 1024 && self.vocabulary == 83 && self.width == 256 {
            report.claim(Claim::exactly("megabytes", megabytes, 20.42));
        }
        report.claim(Claim::exactly("non-trainable parameters", (summary.total - summary.trainable) as f64, 0.0));
        Ok(report)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        let model = CharacterModel::new(self.vocabulary, self.width, self.units);
        vec![model.summary([self.batch, self.length])]
    }
}
