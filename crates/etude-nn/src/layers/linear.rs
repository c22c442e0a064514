//! The fully connected layer.

use crate::init::Init;
use crate::{Forward, Label, Module, Param};
use etude_core::{Tensor, context};

/// A fully connected layer, `y = x·Wᵀ + b`: `[…, inputs] → […, outputs]`.
///
/// ```
/// # use etude_nn::*;
/// let layer = Linear::new(3, 2).init();
/// assert_eq!(layer.forward(&etude_core::ones([5, 3])).shape(), [5, 2]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Param,
    /// `[outputs]`.
    pub bias: Option<Param>,
    label: Label,
}

/// A [`Linear`] before its parameters are drawn.
#[derive(Clone, Debug)]
pub struct LinearConfig {
    inputs: usize,
    outputs: usize,
    bias: bool,
    weights: Init,
}

impl Linear {
    /// A layer from `inputs` to `outputs` numbers; [`LinearConfig::init`] draws its parameters.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `Linear::new(…).option(…).init()`
    pub fn new(inputs: usize, outputs: usize) -> LinearConfig {
        LinearConfig { inputs, outputs, bias: true, weights: Init::Fan(inputs) }
    }
}

impl LinearConfig {
    /// Whether a bias is added; it is unless said otherwise.
    pub fn bias(mut self, bias: bool) -> LinearConfig {
        self.bias = bias;
        self
    }

    /// How the weights start; uniform on ±`1/√inputs` unless said otherwise, as PyTorch does.
    pub fn weights(mut self, init: Init) -> LinearConfig {
        self.weights = init;
        self
    }

    /// Draws the parameters.
    pub fn init(self) -> Linear {
        let LinearConfig { inputs, outputs, bias, weights } = self;
        Linear {
            weight: Param::new(weights.make([outputs, inputs])),
            bias: bias.then(|| Param::new(Init::Fan(inputs).make(outputs))),
            label: Label::new(format!("Linear {inputs}→{outputs}")),
        }
    }
}

impl Forward for Linear {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            let (weight, bias) = (self.weight.value(), self.bias.as_ref().map(Param::value));
            if x.rank() > 0 && !context::is_tracing() {
                return x.linear(&weight, bias.as_ref()); // […, outputs]
            }
            // Written out, so that a frozen model can fold what follows into the weight.
            let y = x.matmul(&weight.t());
            if let Some(bias) = bias { y + bias } else { y }
        })
    }
}
