//! Norms with running statistics: over the batch, and over each example's positions.

use super::norm::{NormConfig, check_channels, value};
use crate::{Forward, Label, Module, Param};
use etude_core::{State, Tensor, is_training, no_grad, ones, zeros};

/// Running mean and variance under PyTorch's names.
#[derive(Module, Clone, Debug)]
struct Running {
    running_mean: State,
    running_var: State,
    num_batches_tracked: State,
    momentum: Option<f64>,
}

impl Running {
    fn new<L>(config: &NormConfig<L>) -> Option<Running> {
        config.track.then(|| Running {
            running_mean: State::new(zeros(config.shape)),
            running_var: State::new(ones(config.shape)),
            num_batches_tracked: State::new(Tensor::scalar_int(0)),
            momentum: config.momentum,
        })
    }

    /// `(x − mean)/√(variance + ε)·w + b` with the running figures, channel by channel.
    #[track_caller]
    fn apply(&self, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, epsilon: f64) -> Tensor {
        let of = |state: &State| state.get().to(x.dtype());
        x.batch_norm_with(&of(&self.running_mean), &of(&self.running_var), weight, bias, epsilon)
    }

    /// Moves the running figures towards a batch's mean and variance, `[C]` each; the variance, of exactly `count`
    /// numbers, is made unbiased. The number of batches is `counted`, or needed for an average of all.
    fn update(&self, mean: &Tensor, variance: &Tensor, count: usize, counted: bool) {
        no_grad(|| {
            let mut tracked = self.num_batches_tracked.get();
            if counted || self.momentum.is_none() {
                tracked = tracked + 1.0;
            }
            let dtype = self.running_mean.get().dtype();
            let part = match self.momentum {
                Some(momentum) => Tensor::scalar(momentum, dtype),
                None => tracked.to(dtype).reciprocal(),
            };
            let unbiased = variance.detach() * (count as f64 / (count as f64 - 1.0).max(1.0));
            for (state, new) in [(&self.running_mean, mean.detach()), (&self.running_var, unbiased)] {
                let old = state.get();
                state.set(&old + (new.to(dtype) - &old) * &part);
            }
            self.num_batches_tracked.set(tracked);
        });
    }
}

/// Batch norm (Ioffe and Szegedy, 2015): each channel is normalised over the batch and all positions,
/// `y = (x − x̄)/√(σ² + ε) · w + b`. `[B, C, …] → [B, C, …]`.
///
/// In a training scope `x̄` and `σ²` are the batch's and move the running statistics, `r ← (1−m)·r + m·x̄` (with the
/// unbiased variance); elsewhere the running statistics take their place. One layer serves every number of positions' axes;
/// [`BatchNorm1d`], [`BatchNorm2d`] and [`BatchNorm3d`] are its other names.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Scale, `[C]`.
    pub weight: Option<Param>,
    /// Shift, `[C]`.
    pub bias: Option<Param>,
    running: Option<Running>,
    channels: usize,
    epsilon: f64,
    label: Label,
}

/// [`BatchNorm`] of `[B, C]` or `[B, C, L]`.
pub type BatchNorm1d = BatchNorm;
/// [`BatchNorm`] of `[B, C, H, W]`.
pub type BatchNorm2d = BatchNorm;
/// [`BatchNorm`] of `[B, C, D, H, W]`.
pub type BatchNorm3d = BatchNorm;

impl BatchNorm {
    /// Over `channels` channels.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `BatchNorm::new(…).option(…).init()`
    pub fn new(channels: usize) -> NormConfig<BatchNorm> {
        let config = NormConfig::new("BatchNorm", channels.into(), |config: NormConfig<BatchNorm>| BatchNorm {
            weight: config.weight(),
            bias: config.bias(),
            running: Running::new(&config),
            channels: config.shape.count(),
            epsilon: config.epsilon,
            label: Label::new(format!("{} {}", config.kind, config.shape.count())),
        });
        config.track(true)
    }

    /// The running mean and variance, `[C]` each, if they are kept.
    pub fn running(&self) -> Option<(Tensor, Tensor)> {
        self.running.as_ref().map(|running| (running.running_mean.get(), running.running_var.get()))
    }
}

impl NormConfig<BatchNorm> {
    /// How much of each batch enters the running statistics; 0.1 unless said otherwise. `None` averages all batches alike.
    pub fn momentum(mut self, momentum: Option<f64>) -> NormConfig<BatchNorm> {
        self.momentum = momentum;
        self
    }

    /// Whether running statistics are kept; they are unless said otherwise.
    pub fn track(mut self, track: bool) -> NormConfig<BatchNorm> {
        self.track = track;
        self
    }
}

impl Module for BatchNorm {
    /// The running statistics stand beside weight and bias, as in PyTorch.
    fn visit(&self, walk: &mut crate::Walk) {
        walk.field("weight", &self.weight);
        walk.field("bias", &self.bias);
        self.running.visit(walk);
        walk.field("label", &self.label);
    }
}

impl Forward for BatchNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            check_channels("BatchNorm", x, self.channels);
            let (weight, bias) = (value(&self.weight), value(&self.bias));
            let (weight, bias) = (weight.as_ref(), bias.as_ref());
            match &self.running {
                Some(running) if !is_training() => running.apply(x, weight, bias, self.epsilon),
                running => {
                    let count = x.count() / self.channels.max(1);
                    assert!(
                        count != 1 || !is_training(),
                        "BatchNorm: one number a channel in {} has no variance to train with; use a larger batch",
                        x.shape()
                    );
                    let (y, mean, variance) = x.batch_norm(weight, bias, self.epsilon);
                    if let Some(running) = running {
                        running.update(&mean, &variance, count, true);
                    }
                    y
                }
            }
        })
    }
}

/// Instance norm (Ulyanov et al., 2016): each channel of each example is normalised over its positions.
/// `[B, C, …] → [B, C, …]`. Without scale and shift, and without running statistics, unless asked for.
#[derive(Clone, Debug)]
pub struct InstanceNorm {
    /// Scale, `[C]`.
    pub weight: Option<Param>,
    /// Shift, `[C]`.
    pub bias: Option<Param>,
    running: Option<Running>,
    channels: usize,
    epsilon: f64,
    label: Label,
}

impl InstanceNorm {
    /// Over `channels` channels.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `InstanceNorm::new(…).option(…).init()`
    pub fn new(channels: usize) -> NormConfig<InstanceNorm> {
        let config =
            NormConfig::new("InstanceNorm", channels.into(), |config: NormConfig<InstanceNorm>| InstanceNorm {
                weight: config.weight(),
                bias: config.bias(),
                running: Running::new(&config),
                channels: config.shape.count(),
                epsilon: config.epsilon,
                label: Label::new(format!("{} {}", config.kind, config.shape.count())),
            });
        config.affine(false)
    }
}

impl NormConfig<InstanceNorm> {
    /// How much of each batch enters the running statistics; 0.1 unless said otherwise. `None` averages all batches alike.
    pub fn momentum(mut self, momentum: Option<f64>) -> NormConfig<InstanceNorm> {
        self.momentum = momentum;
        self
    }

    /// Whether running statistics are kept; they are not unless said otherwise.
    pub fn track(mut self, track: bool) -> NormConfig<InstanceNorm> {
        self.track = track;
        self
    }
}

impl Module for InstanceNorm {
    fn visit(&self, walk: &mut crate::Walk) {
        walk.field("weight", &self.weight);
        walk.field("bias", &self.bias);
        self.running.visit(walk);
        walk.field("label", &self.label);
    }
}

impl Forward for InstanceNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            check_channels("InstanceNorm", x, self.channels);
            assert!(x.rank() >= 3, "InstanceNorm: the input must be [B, C, …] with positions, not {}", x.shape());
            let (weight, bias) = (value(&self.weight), value(&self.bias));
            let (weight, bias) = (weight.as_ref(), bias.as_ref());
            match &self.running {
                Some(running) if !is_training() => running.apply(x, weight, bias, self.epsilon),
                running => {
                    if let Some(running) = running {
                        // The batch's figures are the means of its examples'. Nor does PyTorch count batches here.
                        let axes: Vec<i32> = (2..x.rank() as i32).collect();
                        let (mean, variance) = no_grad(|| (x.mean(axes.clone()).mean(0), x.var(axes, 0.0).mean(0)));
                        let positions = x.shape()[2..].iter().product();
                        running.update(&mean, &variance, positions, false);
                    }
                    x.instance_norm(weight, bias, self.epsilon)
                }
            }
        })
    }
}
