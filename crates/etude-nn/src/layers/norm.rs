//! Normalisation over features: layer, group, instance and root-mean-square norms, and local response normalisation.
//! Norms over the batch are in `batch_norm`.

use crate::{Forward, Label, Module, Param};
use etude_core::{Shape, Tensor, ones, zeros};

/// The parameter's value, if there is one.
pub(super) fn value(param: &Option<Param>) -> Option<Tensor> {
    param.as_ref().map(Param::value)
}

/// Panics unless `x` ends in `shape`.
#[track_caller]
fn check_tail(kind: &str, x: &Tensor, shape: &Shape) {
    let (found, rank) = (x.shape(), shape.rank());
    let fits = found.rank() >= rank && found[found.rank() - rank..] == shape[..];
    assert!(fits, "{kind}: the input is {found}, its last axes must be {shape}");
}

/// Panics unless `x` is `[B, channels, …]`.
#[track_caller]
pub(super) fn check_channels(kind: &str, x: &Tensor, channels: usize) {
    let fits = x.rank() >= 2 && x.size(1) == channels;
    assert!(fits, "{kind}: the input is {}, axis 1 must have {channels} channels", x.shape());
}

/// What the norms have in common before they are built.
#[derive(Clone, Debug)]
pub struct NormConfig<L> {
    pub(super) kind: &'static str,
    /// The shape of weight and bias.
    pub(super) shape: Shape,
    pub(super) groups: usize,
    pub(super) epsilon: f64,
    pub(super) affine: bool,
    pub(super) momentum: Option<f64>,
    pub(super) track: bool,
    build: fn(NormConfig<L>) -> L,
}

impl<L> NormConfig<L> {
    pub(super) fn new(kind: &'static str, shape: Shape, build: fn(NormConfig<L>) -> L) -> NormConfig<L> {
        NormConfig { kind, shape, groups: 1, epsilon: 1e-5, affine: true, momentum: Some(0.1), track: false, build }
    }

    /// What is added under the root; 1e-5 unless the layer says otherwise.
    pub fn epsilon(mut self, epsilon: f64) -> NormConfig<L> {
        self.epsilon = epsilon;
        self
    }

    /// Whether a learned scale and shift follow.
    pub fn affine(mut self, affine: bool) -> NormConfig<L> {
        self.affine = affine;
        self
    }

    /// The layer: scales start at 1, shifts at 0.
    pub fn init(self) -> L {
        (self.build)(self)
    }

    /// The scale, if there is one.
    pub(super) fn weight(&self) -> Option<Param> {
        self.affine.then(|| Param::new(ones(self.shape)))
    }

    /// The shift, if there is one.
    pub(super) fn bias(&self) -> Option<Param> {
        self.affine.then(|| Param::new(zeros(self.shape)))
    }
}

/// Layer norm over the last axes (Ba et al., 2016): `y = (x − x̄)/√(σ² + ε) · w + b`, each position by itself.
/// `[…, shape] → […, shape]`.
#[derive(Module, Clone, Debug)]
pub struct LayerNorm {
    /// Scale, in the normalised axes' shape.
    pub weight: Option<Param>,
    /// Shift, in the normalised axes' shape.
    pub bias: Option<Param>,
    #[module(skip)]
    shape: Shape,
    epsilon: f64,
    label: Label,
}

impl LayerNorm {
    /// Over last axes of this shape, most often the one axis of features.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `LayerNorm::new(…).option(…).init()`
    pub fn new(shape: impl Into<Shape>) -> NormConfig<LayerNorm> {
        NormConfig::new("LayerNorm", shape.into(), |config| LayerNorm {
            weight: config.weight(),
            bias: config.bias(),
            shape: config.shape,
            epsilon: config.epsilon,
            label: Label::new(format!("LayerNorm {}", config.shape)),
        })
    }
}

impl Forward for LayerNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            check_tail("LayerNorm", x, &self.shape);
            let (weight, bias) = (value(&self.weight), value(&self.bias));
            x.layer_norm(self.shape.rank(), weight.as_ref(), bias.as_ref(), self.epsilon)
        })
    }
}

/// Root-mean-square norm over the last axes (Zhang and Sennrich, 2019): `y = x/√(mean(x²) + ε) · w`.
/// `[…, shape] → […, shape]`.
#[derive(Module, Clone, Debug)]
pub struct RmsNorm {
    /// Scale, in the normalised axes' shape.
    pub weight: Option<Param>,
    #[module(skip)]
    shape: Shape,
    epsilon: f64,
    label: Label,
}

impl RmsNorm {
    /// Over last axes of this shape; `ε` is `f32`'s precision unless said otherwise.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `RmsNorm::new(…).option(…).init()`
    pub fn new(shape: impl Into<Shape>) -> NormConfig<RmsNorm> {
        let config = NormConfig::new("RmsNorm", shape.into(), |config: NormConfig<RmsNorm>| RmsNorm {
            weight: config.weight(),
            shape: config.shape,
            epsilon: config.epsilon,
            label: Label::new(format!("RmsNorm {}", config.shape)),
        });
        config.epsilon(f32::EPSILON as f64)
    }
}

impl Forward for RmsNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            check_tail("RmsNorm", x, &self.shape);
            x.rms_norm(self.shape.rank(), value(&self.weight).as_ref(), self.epsilon)
        })
    }
}

/// Group norm (Wu and He, 2018): channels in groups, each group of each example normalised over its channels and all
/// positions, then a scale and a shift a channel. `[B, C, …] → [B, C, …]`.
#[derive(Module, Clone, Debug)]
pub struct GroupNorm {
    /// Scale, `[C]`.
    pub weight: Option<Param>,
    /// Shift, `[C]`.
    pub bias: Option<Param>,
    groups: usize,
    channels: usize,
    epsilon: f64,
    label: Label,
}

impl GroupNorm {
    /// `channels` channels in `groups` groups.
    ///
    /// # Panics
    /// If the groups do not divide the channels.
    #[track_caller]
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `GroupNorm::new(…).option(…).init()`
    pub fn new(groups: usize, channels: usize) -> NormConfig<GroupNorm> {
        let divides = groups > 0 && channels.is_multiple_of(groups);
        assert!(divides, "GroupNorm: {groups} groups do not divide {channels} channels");
        let mut config = NormConfig::new("GroupNorm", channels.into(), |config: NormConfig<GroupNorm>| GroupNorm {
            weight: config.weight(),
            bias: config.bias(),
            groups: config.groups,
            channels: config.shape.count(),
            epsilon: config.epsilon,
            label: Label::new(format!("GroupNorm {} in {}", config.shape.count(), config.groups)),
        });
        config.groups = groups;
        config
    }
}

impl Forward for GroupNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            check_channels("GroupNorm", x, self.channels);
            let (weight, bias) = (value(&self.weight), value(&self.bias));
            x.group_norm(self.groups, weight.as_ref(), bias.as_ref(), self.epsilon)
        })
    }
}

/// Local response normalisation over neighbouring channels (Krizhevsky et al., 2012):
/// `y = x / (k + α/n · Σx²)^β`, the sum over the `n` channels around each. `[B, C, …] → [B, C, …]`.
#[derive(Module, Clone, Debug)]
pub struct LocalResponseNorm {
    /// How many channels are summed, `n`: `⌊n/2⌋` before, the rest from the channel itself on.
    pub size: usize,
    /// `α`.
    pub alpha: f64,
    /// `β`.
    pub beta: f64,
    /// `k`.
    pub k: f64,
    label: Label,
}

impl LocalResponseNorm {
    /// Over `size` channels, with `α = 1e-4`, `β = 0.75`, `k = 1`.
    ///
    /// # Panics
    /// If `size` is 0.
    #[track_caller]
    pub fn new(size: usize) -> LocalResponseNorm {
        assert!(size > 0, "LocalResponseNorm: at least one channel must be summed");
        LocalResponseNorm {
            size,
            alpha: 1e-4,
            beta: 0.75,
            k: 1.0,
            label: Label::new(format!("LocalResponseNorm {size}")),
        }
    }
}

impl Forward for LocalResponseNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || x.local_response_norm(self.size, self.alpha, self.beta, self.k))
    }
}
