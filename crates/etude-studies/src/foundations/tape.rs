//! A tape of what was computed: imperative and symbolic programs, and the graph behind both.
//!
//! An *imperative* program computes each line as it is reached. A *symbolic* one first writes down what is to be computed,
//! compiles it, and computes only then; it may then save memory, because it knows which values nobody will ask for.
//! Étude is written like the first and run like the second: a line records a node on the tape, and reading a value hands
//! the recorded graph to the compiler. For `a = 1…1`, `b = 2·1…1`, `c = b·a`, `d = c + 1` the tape holds
//!
//! ```text
//! a ──┐
//!     ├─ mul ── c ── add ── d          forward: left to right, values
//! b ──┘              1 ──┘             backward: right to left, gradients
//! ```
//!
//! and the plan for `d` alone is one fused pass that never stores `c`. Differentiation walks the same tape backwards
//! (Wengert, 1964): for `y = x·x` at 3 it finds `dy/dx = 2x = 6`. One walk uses the tape up, unless it is kept on purpose.

use crate::study::Etude;
use etude::prelude::*;
use etude::train::plot::Graph;
use etude::{Error, Result};
use serde::{Deserialize, Serialize};

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Tape {
    /// Elements of `a` and `b`. [1..10000000]
    pub size: usize,
    /// The point at which `y = x·x` is differentiated. [-1e6..1e6]
    pub x: f64,
}

impl Default for Tape {
    fn default() -> Self {
        Self { size: 10, x: 3.0 }
    }
}

/// The four lines of both programs.
fn program(a: &Tensor, b: &Tensor) -> [Tensor; 2] {
    let c = b * a;
    let d = &c + 1.0;
    [c, d]
}

impl Etude for Tape {
    const NAME: &'static str = "tape";
    const TITLE: &'static str = "imperative and symbolic programs, and the tape between them";
    const SOURCE: &'static str = "Wengert, 1964";
    const ROWS: &'static [&'static str] = &["F2", "F3", "F4"];
    const TEXT: &'static str = include_str!("tape.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let data = |value: f32| Tensor::from_slice(&vec![value; self.size], self.size);
        let (a, b) = (data(1.0), data(2.0));

        // Imperative: every line is computed before the next begins, and every result is stored.
        let [c, d] = program(&a, &b);
        c.eval()?;
        d.eval()?;
        let imperative = d.to_vec::<f32>();

        // Symbolic: the whole is recorded, nothing is computed; then a plan for `d` alone.
        let [c, d] = program(&a, &b);
        let computed_early = c.is_evaluated() || d.is_evaluated();
        let both = etude::core::plan_summary(&[c.clone(), d.clone()])?;
        drop(c);
        let alone = etude::core::plan_summary(std::slice::from_ref(&d))?;
        let symbolic = d.to_vec::<f32>();
        session.say(format!("storing c and d: {} bytes; d alone: {} bytes", both.peak_bytes, alone.peak_bytes));

        // The graph that was recorded, with the way back that `backward` adds to it.
        let (va, vb) = (a.variable(), b.variable());
        let [c, d] = program(&va, &vb);
        let back = d.sum(..).backward_keeping()?;
        let slope_of = |v: &Tensor| back.get(v).cloned().ok_or_else(|| Error::new("d depends on a and b"));
        let (da, db) = (slope_of(&va)?, slope_of(&vb)?);
        let values = [("a", 0, &va), ("b", 0, &vb), ("c", 0, &c), ("d", 0, &d)];
        let named = [&values[..], &[("∂d/∂a", 1, &da), ("∂d/∂b", 1, &db)]].concat();
        session.show("graph", Graph::of("c = b·a, d = c + 1: values, and the gradients of d", &named))?;
        let slopes = [&da, &db].map(|slope| slope.to_vec::<f32>());

        // The tape, walked backwards.
        let x = tensor(self.x).variable();
        let y = &x * &x;
        let slope = |found: Gradients| found.get(&x).map(Tensor::item).ok_or_else(|| Error::new("y depends on x"));
        let kept = slope(y.backward_keeping()?)?;
        let once = slope(y.backward()?)?;
        y.eval()?;
        let gone = y.backward().is_err();

        let mut report = Report::new();
        report.claim(Claim::exactly("threes, imperative", count_of(&imperative, 3.0), self.size as f64));
        report.claim(Claim::exactly("threes, symbolic", count_of(&symbolic, 3.0), self.size as f64));
        report.claim(Claim::exactly("values computed while recording", computed_early as u8 as f64, 0.0));
        report.claim(Claim::at_most("memory of the symbolic plan, as a share", share(alone, both), 0.5));
        report.claim(Claim::exactly("∂d/∂a = b, everywhere", count_of(&slopes[0], 2.0), self.size as f64));
        report.claim(Claim::exactly("∂d/∂b = a, everywhere", count_of(&slopes[1], 1.0), self.size as f64));
        report.claim(Claim::exactly("dy/dx with the tape kept", kept, 2.0 * self.x));
        report.claim(Claim::exactly("dy/dx", once, 2.0 * self.x));
        report.claim(Claim::exactly("tapes left after one walk", !gone as u8 as f64, 0.0));
        Ok(report)
    }
}

fn count_of(values: &[f32], wanted: f32) -> f64 {
    values.iter().filter(|&&value| value == wanted).count() as f64
}

fn share(alone: etude::core::PlanSummary, both: etude::core::PlanSummary) -> f64 {
    alone.peak_bytes as f64 / both.peak_bytes as f64
}
