//! Convolutions and their gradients, without a buffer of patches: patches are packed straight into the panels of the
//! matrix product's tile kernel, or not at all where there are few output channels or a kernel has one element.
//!
//! The forward pass and the gradient of the input are both a `sweep`: sums over taps of a shifted input. Where the input
//! has a few channels only, its gradient takes the taps one by one (`taps`). The gradient of the weights is a product over
//! all positions (`weight`). 3 × 3 kernels with stride 1 take a quarter of the multiplications in f32 (`winograd`).

mod ahead;
pub mod channels;
mod depthwise;
mod direct;
mod image;
mod narrow;
mod panels;
mod pointwise;
mod sweep;
mod taps;
#[cfg(test)]
mod tests;
mod transposed;
mod weight;
mod winograd;

use crate::threads::parallel_chunks;
use crate::{DType, Float};
use bytemuck::{cast_slice, cast_slice_mut};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};
use sweep::{Class, Sweep};

/// 0: as the environment says; 1: exact; 2: fast.
static EXACT: AtomicU8 = AtomicU8::new(0);
static EXACT_BY_ENVIRONMENT: LazyLock<bool> = LazyLock::new(|| std::env::var("ETUDE_EXACT").is_ok_and(|v| v == "1"));

/// Whether convolutions in f32 are plain sums of products throughout, so that results differ from the exact ones by no
/// more than the rounding of such a sum. If not (the default), 3 × 3 kernels with stride 1 may go the way of Winograd,
/// with some three times that error. `ETUDE_EXACT=1`, read once, turns it on.
pub fn is_exact() -> bool {
    match EXACT.load(Ordering::Relaxed) {
        0 => *EXACT_BY_ENVIRONMENT,
        state => state == 1,
    }
}

/// Sets what [`is_exact`] says from now on; `None` returns to the environment.
pub fn set_exact(exact: Option<bool>) {
    EXACT.store(exact.map_or(0, |exact| if exact { 1 } else { 2 }), Ordering::Relaxed);
}

/// Whether a convolution of `T` goes the way of Winograd.
fn is_winograd<T: Float>(g: &ConvGeometry) -> bool {
    T::DTYPE == DType::F32 && winograd::is_faster(g) && !is_exact()
}

/// Sizes of a convolution. One or two spatial axes are passed as three: the leading ones have input, kernel, stride,
/// dilation and output 1 and padding 0.
///
/// `x [batch, in_channels, ..input]`, `w [out_channels, in_channels / groups, ..kernel]`, `y [batch, out_channels,
/// ..output]`, all contiguous. Padding is at the beginning and what is read beyond the end counts as zero, so that
/// asymmetric padding and output padding need no more: `output` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Examples.
    pub batch: usize,
    /// Groups of channels that do not see each other; divides both channel counts.
    pub groups: usize,
    /// Channels of `x`.
    pub in_channels: usize,
    /// Channels of `y`.
    pub out_channels: usize,
    /// Spatial sizes of `x`.
    pub input: [usize; 3],
    /// Spatial sizes of `w`.
    pub kernel: [usize; 3],
    /// From one position of the kernel to the next.
    pub stride: [usize; 3],
    /// Zeros before the input.
    pub padding: [usize; 3],
    /// From one element of the kernel to the next.
    pub dilation: [usize; 3],
    /// Spatial sizes of `y`.
    pub output: [usize; 3],
}

impl ConvGeometry {
    /// Elements of `x`.
    pub fn input_size(&self) -> usize {
        self.batch * self.in_channels * self.input.iter().product::<usize>()
    }

    /// Elements of `w`.
    pub fn weight_size(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups.max(1)) * self.taps()
    }

    /// Elements of `y`.
    pub fn output_size(&self) -> usize {
        self.batch * self.out_channels * self.output.iter().product::<usize>()
    }

    /// Multiply-adds of the forward pass, zeros of the padding included; each gradient has as many.
    pub fn multiply_adds(&self) -> usize {
        self.output_size() * (self.in_channels / self.groups.max(1)) * self.taps()
    }

    /// Elements of the kernel for one pair of channels.
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    fn check(&self, x: usize, w: usize, y: usize) {
        assert!(
            self.groups > 0
                && self.in_channels.is_multiple_of(self.groups)
                && self.out_channels.is_multiple_of(self.groups),
            "convolution: groups do not divide the channels: {self:?}"
        );
        assert!(
            self.stride.iter().chain(&self.dilation).all(|&s| s > 0),
            "convolution: a stride or dilation of 0: {self:?}"
        );
        assert_eq!(x, self.input_size(), "convolution: elements of x for {self:?}");
        assert_eq!(w, self.weight_size(), "convolution: elements of w for {self:?}");
        assert_eq!(y, self.output_size(), "convolution: elements of y for {self:?}");
    }

    /// The kernel's elements in order, as positions.
    fn positions(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let [depth, height, width] = self.kernel;
        (0..depth).flat_map(move |z| (0..height).flat_map(move |y| (0..width).map(move |x| [z, y, x])))
    }
}

/// Cross-correlation: `y[b, o, p] = Σ_c Σ_t w[o, c, t] · x[b, c, p · stride + t · dilation − padding]`.
///
/// # Panics
/// If a slice has not the size the geometry says, or groups do not divide the channels.
pub fn forward<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], y: &mut [T]) {
    (T::floats().conv_forward)(g, x, w, y)
}

/// The body of [`forward`], compiled once for each type in this crate.
pub(crate) fn forward_body<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], y: &mut [T]) {
    g.check(x.len(), w.len(), y.len());
    if is_winograd::<T>(g) {
        return winograd::forward(g, cast_slice(x), cast_slice(w), cast_slice_mut(y));
    }
    plain_forward(g, x, w, y);
}

/// [`forward`] as plain sums.
fn plain_forward<T: Float>(g: &ConvGeometry, x: &[T], w: &[T], y: &mut [T]) {
    if depthwise::suits_forward::<T>(g) {
        return depthwise::forward(g, x, w, y);
    }
    let (channels, rows) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let shift = |axis: usize, k: usize| (k * g.dilation[axis]) as isize - g.padding[axis] as isize;
    let sweep = Sweep {
        batch: g.batch,
        groups: g.groups,
        channels,
        rows,
        source: g.input,
        step: g.stride,
        classes: vec![Class {
            taps: g.positions().map(|k| [shift(0, k[0]), shift(1, k[1]), shift(2, k[2])]).collect(),
            weights: (0..g.taps()).collect(),
            origin: [0; 3],
        }],
        weight_row: channels * g.taps(),
        weight_channel: g.taps(),
        weight_group: rows * channels * g.taps(),
        grid: g.output,
        target: g.output,
        target_step: [1; 3],
    };
    if channels * g.taps() == 0 {
        return y.fill(T::ZERO);
    }
    sweep.run(x, w, y);
}

/// The gradient of `x`, the transpose of [`forward`] in its input; also serves as transposed convolution.
///
/// With a stride, positions of `x` fall into classes by their remainder; each class is a convolution of `gy` with its
/// own part of the kernel.
///
/// # Panics
/// As [`forward`].
pub fn input_gradient<T: Float>(g: &ConvGeometry, gy: &[T], w: &[T], gx: &mut [T]) {
    (T::floats().conv_input_gradient)(g, gy, w, gx)
}

/// The body of [`input_gradient`], compiled once for each type in this crate.
pub(crate) fn input_gradient_body<T: Float>(g: &ConvGeometry, gy: &[T], w: &[T], gx: &mut [T]) {
    g.check(gx.len(), w.len(), gy.len());
    if is_winograd::<T>(g) {
        return winograd::input_gradient(g, cast_slice(gy), cast_slice(w), cast_slice_mut(gx));
    }
    plain_input_gradient(g, gy, w, gx);
}

/// [`input_gradient`] as plain sums.
fn plain_input_gradient<T: Float>(g: &ConvGeometry, gy: &[T], w: &[T], gx: &mut [T]) {
    if depthwise::suits_input_gradient(g) {
        return depthwise::input_gradient(g, gy, w, gx);
    }
    if narrow::suits(g) {
        return narrow::input_gradient(g, gy, w, gx);
    }
    if taps::suits(g) {
        return taps::input_gradient(g, gy, w, gx);
    }
    let (rows, channels) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let (mut classes, mut all) = (vec![], true);
    for z in 0..g.stride[0].min(g.input[0]) {
        for y in 0..g.stride[1].min(g.input[1]) {
            for x in 0..g.stride[2].min(g.input[2]) {
                let origin = [z, y, x];
                // Element k of the kernel joins x[origin + s·i] to gy[(origin + s·i + padding − k·dilation) / s].
                let shift = |axis: usize, k: usize| {
                    let distance = (origin[axis] + g.padding[axis]) as isize - (k * g.dilation[axis]) as isize;
                    let stride = g.stride[axis] as isize;
                    (distance.rem_euclid(stride) == 0).then_some(distance / stride)
                };
                let mut class = Class { taps: vec![], weights: vec![], origin };
                for (index, k) in g.positions().enumerate() {
                    if let (Some(z), Some(y), Some(x)) = (shift(0, k[0]), shift(1, k[1]), shift(2, k[2])) {
                        class.taps.push([z, y, x]);
                        class.weights.push(index);
                    }
                }
                if class.taps.is_empty() {
                    all = false;
                } else {
                    classes.push(class);
                }
            }
        }
    }
    let sweep = Sweep {
        batch: g.batch,
        groups: g.groups,
        channels,
        rows,
        source: g.output,
        step: [1; 3],
        classes,
        weight_row: g.taps(),
        weight_channel: rows * g.taps(),
        weight_group: channels * rows * g.taps(),
        grid: [0, 1, 2].map(|axis| g.input[axis].div_ceil(g.stride[axis])),
        target: g.input,
        target_step: g.stride,
    };
    if (!all || channels == 0) && !sweep.fills_gaps() {
        // Some elements are reached by no position of the kernel.
        parallel_chunks(gx, 1 << 16, |_, gx| gx.fill(T::ZERO));
    }
    sweep.run(gy, w, gx);
}

/// The gradient of `w`: `gw[o, c, t] = Σ_b Σ_p gy[b, o, p] · x[b, c, p · stride + t · dilation − padding]`.
///
/// # Panics
/// As [`forward`].
pub fn weight_gradient<T: Float>(g: &ConvGeometry, x: &[T], gy: &[T], gw: &mut [T]) {
    (T::floats().conv_weight_gradient)(g, x, gy, gw)
}

/// The body of [`weight_gradient`], compiled once for each type in this crate.
pub(crate) fn weight_gradient_body<T: Float>(g: &ConvGeometry, x: &[T], gy: &[T], gw: &mut [T]) {
    g.check(x.len(), gw.len(), gy.len());
    if is_winograd::<T>(g) {
        return winograd::weight_gradient(g, cast_slice(x), cast_slice(gy), cast_slice_mut(gw));
    }
    if depthwise::suits_weight_gradient::<T>(g) {
        return depthwise::weight_gradient(g, x, gy, gw);
    }
    if pointwise::suits(g) {
        return pointwise::gradient(g, x, gy, gw);
    }
    weight::gradient(g, x, gy, gw);
}
