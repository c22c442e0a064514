//! Layers that only rearrange or resize: nothing to learn.

use crate::{Forward, Label, Module};
use etude_core::{Interpolation, Shape, Tensor};

/// All axes from one on as one, `[B, C, H, W] → [B, C·H·W]`: from feature maps to a dense layer.
///
/// ```
/// # use etude_nn::*;
/// assert_eq!(Flatten::new().forward(&etude_core::ones([2, 3, 4, 5])).shape(), [2, 60]);
/// assert_eq!(Flatten::from_axis(2).forward(&etude_core::ones([2, 3, 4, 5])).shape(), [2, 3, 20]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Flatten {
    #[module(skip)]
    axis: i32,
    label: Label,
}

impl Flatten {
    /// Keeps the batch apart.
    #[allow(clippy::new_without_default)] // as every layer is made
    pub fn new() -> Flatten {
        Flatten::from_axis(1)
    }

    /// Keeps the axes before `axis` apart.
    pub fn from_axis(axis: i32) -> Flatten {
        Flatten { axis, label: Label::new("Flatten") }
    }
}

impl Forward for Flatten {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || x.flatten_from(self.axis))
    }
}

/// The axes after the batch as others, `[B, C·H·W] → [B, C, H, W]`: from a dense layer to feature maps.
///
/// ```
/// # use etude_nn::*;
/// assert_eq!(Unflatten::new([3, 4, 5]).forward(&etude_core::ones([2, 60])).shape(), [2, 3, 4, 5]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Unflatten {
    #[module(skip)]
    shape: Shape,
    label: Label,
}

impl Unflatten {
    /// To these axes, each example for itself.
    pub fn new(shape: impl Into<Shape>) -> Unflatten {
        let shape = shape.into();
        Unflatten { shape, label: Label::new(format!("Unflatten {shape}")) }
    }
}

impl Forward for Unflatten {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let batch = x.size(0);
        let shape: Shape = std::iter::once(batch).chain(self.shape.iter().copied()).collect();
        self.label.call(self, || x.reshape(shape))
    }
}

/// Pictures, signals or volumes scaled along each spatial axis, `[B, C, …] → [B, C, …·scale]`.
///
/// ```
/// # use etude_nn::*;
/// # use etude_core::Interpolation;
/// assert_eq!(Upsample::new(2.0, Interpolation::Nearest).forward(&etude_core::ones([1, 3, 4, 5])).shape(), [1, 3, 8, 10]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Upsample {
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    mode: Interpolation,
    label: Label,
}

impl Upsample {
    /// Scales by `scale`, values between samples found as `mode` says.
    pub fn new(scale: f64, mode: Interpolation) -> Upsample {
        Upsample { scale, mode, label: Label::new(format!("Upsample ×{scale}")) }
    }
}

impl Forward for Upsample {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let scales = vec![self.scale; x.rank().saturating_sub(2)];
        self.label.call(self, || x.interpolate_by(&scales, self.mode))
    }
}
