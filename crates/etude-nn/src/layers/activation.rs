//! Activation functions, as functions and as layers.

use crate::init::Init;
use crate::{Forward, Label, Module, Param};
use etude_core::Tensor;

/// A function applied to every element, or along one axis. [`Activation::layer`] makes a layer of it.
///
/// ```
/// # use etude_nn::Activation;
/// let y = Activation::Relu.apply(&etude_core::tensor([-1.0, 2.0]));
/// assert_eq!(y.to_vec::<f32>(), [0.0, 2.0]);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`; the gradient at 0 is 0 (Nair and Hinton, 2010).
    Relu,
    /// `min(max(x, 0), 6)` (Howard et al., 2017).
    Relu6,
    /// `x` above 0, this times `x` below; usually 0.01 (Maas et al., 2013).
    LeakyRelu(f64),
    /// `x` above 0, `α(eˣ − 1)` below; `α` is usually 1 (Clevert et al., 2016).
    Elu(f64),
    /// `1.0507·ELU(x)` with `α = 1.6733`, which keeps mean 0 and variance 1 from layer to layer (Klambauer et al., 2017).
    Selu,
    /// `x` above 0, `α(e^(x/α) − 1)` below (Barron, 2017).
    Celu(f64),
    /// `x·Φ(x)`, with the normal distribution function (Hendrycks and Gimpel, 2016).
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715x³)))`, close to [`Activation::Gelu`]: what GPT-2 uses.
    GeluTanh,
    /// `x·σ(x)`, also called swish (Elfwing et al., 2017).
    Silu,
    /// `x·tanh(ln(1 + eˣ))` (Misra, 2019).
    Mish,
    /// `ln(1 + eˣ)`, without overflow (Dugas et al., 2000).
    Softplus,
    /// `x/(1 + |x|)`.
    Softsign,
    /// Hyperbolic tangent.
    Tanh,
    /// `1/(1 + e⁻ˣ)`.
    Sigmoid,
    /// `ln σ(x)`, without overflow.
    LogSigmoid,
    /// `min(max(x/6 + ½, 0), 1)` (Howard et al., 2019).
    HardSigmoid,
    /// `x·min(max(x/6 + ½, 0), 1)` (Howard et al., 2019).
    HardSwish,
    /// `min(max(x, low), high)`.
    HardTanh(f64, f64),
    /// `eˣ/Σeˣ` along this axis (negative from the end).
    Softmax(i32),
    /// `x − ln Σeˣ` along this axis (negative from the end).
    LogSoftmax(i32),
    /// The first half along this axis times `σ` of the second half (Dauphin et al., 2017).
    Glu(i32),
}

impl Activation {
    /// The function of `x`, in `x`'s shape ([`Activation::Glu`] halves one axis).
    #[track_caller]
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Activation::Identity => x.clone(),
            Activation::Relu => x.relu(),
            Activation::Relu6 => x.relu6(),
            Activation::LeakyRelu(slope) => x.leaky_relu(slope),
            Activation::Elu(alpha) => x.elu(alpha),
            Activation::Selu => x.selu(),
            Activation::Celu(alpha) => x.celu(alpha),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Silu => x.silu(),
            Activation::Mish => x.mish(),
            Activation::Softplus => x.softplus(),
            Activation::Softsign => x.softsign(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::LogSigmoid => x.logsigmoid(),
            Activation::HardSigmoid => x.hardsigmoid(),
            Activation::HardSwish => x.hardswish(),
            Activation::HardTanh(low, high) => x.hardtanh(low, high),
            Activation::Softmax(axis) => x.softmax(axis),
            Activation::LogSoftmax(axis) => x.log_softmax(axis),
            Activation::Glu(axis) => x.glu(axis),
        }
    }

    /// A layer that applies the function.
    pub fn layer(self) -> ActivationLayer {
        ActivationLayer { function: self, label: Label::new(format!("{self:?}")) }
    }
}

/// A layer that applies an [`Activation`]: `[…] → […]`.
#[derive(Module, Clone, Debug)]
pub struct ActivationLayer {
    #[module(skip)]
    function: Activation,
    label: Label,
}

impl Forward for ActivationLayer {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || self.function.apply(x))
    }
}

/// `x` above 0, `a·x` below, with a learned `a` for all channels or for each (He et al., 2015): `[B, C, …] → [B, C, …]`.
#[derive(Module, Clone, Debug)]
pub struct PRelu {
    /// The slopes `a`: `[1]` or `[C]`.
    pub weight: Param,
    label: Label,
}

impl PRelu {
    /// One slope for `channels` channels each, or with 1 the same for all. They start at 0.25.
    pub fn new(channels: usize) -> PRelu {
        let weight = Param::new(Init::Constant(0.25).make(channels));
        PRelu { weight, label: Label::new(format!("PRelu {channels}")) }
    }
}

impl Forward for PRelu {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || x.prelu(&self.weight.value()))
    }
}
