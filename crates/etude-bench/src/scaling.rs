//! How the time of a step grows with what is in it: what an example costs in batches of different sizes, and a symbol in
//! texts of different lengths.

use crate::measure::{measure, profile};
use crate::workload::{convnet, lstm};
use crate::{Setting, Task};
use etude::Result;
use etude::core::Profile;

/// A workload at several sizes.
pub struct Scaling {
    /// The workload.
    pub name: &'static str,
    /// What is counted: examples, or symbols.
    pub unit: &'static str,
    /// How many there are of them in a step.
    pub sizes: &'static [usize],
    build: fn(usize) -> Task,
}

/// Examples of convnet in a batch, and symbols in each of eight texts of lstm.
pub const SCALINGS: &[Scaling] = &[
    Scaling {
        name: "convnet",
        unit: "examples in a batch",
        sizes: &[8, 16, 32, 64, 128, 256],
        build: |size| convnet(&Setting::RACE, size),
    },
    Scaling {
        name: "lstm",
        unit: "symbols in each of 8 texts",
        sizes: &[25, 50, 100, 200, 400],
        build: |size| lstm(&Setting::RACE, 8, size),
    },
];

impl Scaling {
    /// The milliseconds of a step at each size, the median of three turns through all sizes, so that drift of the machine
    /// hits all alike.
    pub fn measure(&self) -> Result<Vec<f64>> {
        let mut turns = vec![Vec::new(); self.sizes.len()];
        for _ in 0..3 {
            for (times, &size) in turns.iter_mut().zip(self.sizes) {
                let mut task = (self.build)(size);
                times.push(measure(|| task.step().map(drop), None, 0.7)?.median_ms);
            }
        }
        turns.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        Ok(turns.iter().map(|times| times[1]).collect())
    }

    /// Where the time of `steps` steps of one size goes, and how many milliseconds one took.
    pub fn profile(&self, size: usize, steps: usize) -> Result<(Profile, f64)> {
        let mut task = (self.build)(size);
        profile(|| task.step().map(drop), steps)
    }
}
