//! Three ways to write the same model: a layer of one's own, a stack, a struct.
//!
//! A dense layer is `y = σ(x·W + b)`. The notes build it three times: as a layer whose parameters are made by hand, as a
//! stack of ready layers in order, and as a model that holds a layer and says what it does with it. In Étude all three are
//! one thing: a struct with a `forward`. Parameters are found by field path, and the same seed makes the same numbers.

use crate::study::Etude;
use etude::Result;
use etude::prelude::*;
use serde::{Deserialize, Serialize};

/// A layer of one's own: parameters in fields, the equation in `forward`.
#[derive(Module, Clone)]
struct OurDense {
    w: Param,
    b: Param,
}

impl OurDense {
    fn new(inputs: usize, outputs: usize) -> Self {
        Self { w: Param::new(Init::Normal(0.0, 1.0).make([inputs, outputs])), b: Param::new(zeros(outputs)) }
    }
}

impl Forward for OurDense {
    fn forward(&self, x: &Tensor) -> Tensor {
        (x.matmul(&self.w.value()) + self.b.value()).sigmoid() // [B, outputs]
    }
}

/// A model that holds one layer.
#[derive(Module, Clone)]
struct Subclassed {
    dense: Linear,
}

impl Forward for Subclassed {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.dense.forward(x).sigmoid()
    }
}

/// The knobs.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// Outputs of the layer. [1..100000]
    pub outputs: usize,
}

impl Default for Layers {
    fn default() -> Self {
        Self { outputs: 3 }
    }
}

impl Etude for Layers {
    const NAME: &'static str = "layers";
    const TITLE: &'static str = "a layer of one's own, a stack, a struct";
    const SOURCE: &'static str = "the notes' laboratory";
    const ROWS: &'static [&'static str] = &["O2", "O3", "O4", "F8"];
    const TEXT: &'static str = include_str!("layers.rs");

    fn run(self, session: &mut Session) -> Result<Report> {
        let x = tensor([[1.0, 2.0]]); // [1, 2]
        let ours = || {
            etude::seed(1);
            OurDense::new(2, self.outputs).forward(&x)
        };
        let (first, again) = (ours(), ours());
        session.say(format!("our own layer gives {:.4?}", first.to_vec::<f32>()));

        let stack = Sequential::new().add(Linear::new(2, self.outputs).init()).add(Activation::Sigmoid.layer());
        let subclassed = Subclassed { dense: Linear::new(2, self.outputs).init() };
        subclassed.dense.weight.set(stack.parameters()[0].1.value().detach());
        if let (Some(bias), Some((_, param))) = (&subclassed.dense.bias, stack.parameters().get(1)) {
            bias.set(param.value().detach());
        }
        let difference = (stack.forward(&x) - subclassed.forward(&x)).abs().max(..).item();
        let names: Vec<String> = subclassed.parameters().into_iter().map(|(name, _)| name).collect();
        session.say(format!("the struct's parameters are {}", names.join(", ")));

        let inside = first.to_vec::<f64>().iter().filter(|v| (0.0..=1.0).contains(*v)).count();
        let apart = (&first - &again).abs().max(..).item();
        let mut report = Report::new();
        report.claim(Claim::exactly("rows and columns of the output", first.shape()[0] as f64, 1.0));
        report.claim(Claim::exactly("outputs between 0 and 1", inside as f64, self.outputs as f64));
        report.claim(Claim::exactly("difference when seeded alike", apart, 0.0));
        report.claim(Claim::exactly("difference of stack and struct", difference, 0.0));
        Ok(report)
    }
}
