//! Seeds: the same seed, the same result, on any number of threads.
//!
//! A generator that keeps a running state gives numbers that depend on who asked first. Étude's are counted instead:
//! number `i` of draw `n` is a function `philox(seed, n, i)` and nothing else (Salmon et al., 2011), so no thread and no
//! schedule can change it. Sums are added up in an order fixed by the sizes. So two runs with one seed agree in every bit.

use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// Training steps of each run. [1..10000000]
    pub steps: u64,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { steps: 20 }
    }
}

/// Trains a small network from `seed` on `threads` threads and returns every weight's bits.
fn bits(seed: u64, threads: usize, steps: u64) -> Result<Vec<u32>> {
    etude::core::set_threads(threads);
    etude::seed(seed);
    let model = Sequential::new()
        .add(Linear::new(64, 128).init())
        .add(Activation::Relu.layer())
        .add(Linear::new(128, 10).init());
    let mut step = Adam::new(1e-2).over(&model);
    for _ in 0..steps {
        let x = randn([256, 64]);
        let labels = x.narrow(1, 0, 10).argmax(-1);
        step.minimise(&cross_entropy(&model.forward(&x), &labels))?;
    }
    etude::core::set_threads(0);
    let weights = model.tensors().into_iter().flat_map(|(_, tensor)| tensor.to_vec::<f32>());
    Ok(weights.map(f32::to_bits).collect())
}

impl Etude for Seeds {
    const NAME: &'static str = "seeds";
    const TITLE: &'static str = "the same seed gives the same bits on any number of threads";
    const SOURCE: &'static str = "Salmon et al., 2011";
    const ROWS: &'static [&'static str] = &["O7"];
    const TEXT: &'static str = include_str!("seeds.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let seed = session.seed();
        let one = bits(seed, 1, self.steps)?;
        let differing = |other: &[u32]| one.iter().zip(other).filter(|(a, b)| a != b).count() as f64;
        let mut report = Report::new();
        for threads in [2, 5] {
            let found = differing(&bits(seed, threads, self.steps)?);
            report.claim(Claim::exactly(format!("weights that differ between 1 thread and {threads}"), found, 0.0));
        }
        let other = differing(&bits(seed + 1, 1, self.steps)?) / one.len() as f64;
        report.claim(Claim::at_least("weights that differ with another seed", other, 0.9).percent());
        Ok(report)
    }
}
