//! What a network that reads captchas is trained on: the knobs that the études of captchas share.

use super::lettering::{CHARACTERS, Captchas};
use crate::study::knobs;
use etude::Result;
use etude::nn::schedule::Cosine;
use etude::prelude::*;
use etude::train::config::docs_from_source;
use std::ops::RangeInclusive;

knobs! {
    /// The knobs; an étude's own struct flattens them into its own.
    pub struct Course {
        /// The characters that occur, letters and digits.
        characters: String = CHARACTERS.into(),
        /// The most a character is turned to either side, in degrees. [0..90]
        rotation: f64 = 25.0,
        /// The most lines through a captcha; there are at least half as many. [0..20]
        lines: usize = 3,
        /// Training steps. [1..10000000]
        steps: u64 = 12000,
        /// Captchas a step, drawn for it. [1..100000]
        batch: usize = 16,
        /// Channels of the first convolution; the others have twice and four times as many. [1..1024]
        channels: usize = 32,
        /// Adam's step size at the start; it falls to a hundredth along half a cosine. [0..]
        learning_rate: f64 = 1e-3,
        /// Captchas of the test, of strings never drawn in training. [48..100000]
        tests: usize = 2000,
        /// Smallest share of whole strings right. [0..1]
        claim: f64 = 0.95,
    }
}

impl Course {
    /// What its knobs mean.
    pub fn docs() -> Vec<(String, String)> {
        docs_from_source(include_str!("course.rs"), "Course")
    }

    /// The captchas to learn from, of strings as long as `lengths` say.
    pub fn captchas(&self, lengths: RangeInclusive<usize>, seed: u64) -> Result<Captchas> {
        let drawn = Captchas::new(&self.characters, lengths, seed, self.steps as usize * self.batch)?;
        Ok(Captchas { rotation: self.rotation as f32, lines: self.lines, ..drawn })
    }

    /// Those of the test.
    pub fn test(&self, captchas: Captchas) -> Captchas {
        Captchas { held_out: true, count: self.tests, ..captchas }
    }

    /// Adam for `trained`; says how large `model` is.
    pub fn optimizer(&self, session: &Session, trained: &impl Module, model: &impl Module) -> Optimizer {
        session.introduce(model);
        Adam::new(self.learning_rate).over(trained).schedule(Cosine::down(self.learning_rate, 100.0, self.steps))
    }
}
