//! Pooling over one to three spatial axes: maximum, average, adaptive, global, and of order p.
//!
//! A maximum pool also gives the position of each maximum; its gradient puts numbers there, whose gradient takes numbers
//! from there, whose gradient puts … : any order. The sum of a window and its transpose are one another's gradient.

use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::spatial::{self, PerAxis};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor, cat};
use etude_kernels::pool::{self, PoolGeometry};
use etude_kernels::{Element, Float};
use std::any::Any;
use std::hash::{Hash, Hasher};

/// A window and how it moves. A number is a window of that size moving by its own size: `x.max_pool2d(2)`; the rest is a
/// chain: `PoolOptions::new(3).stride(2).padding(1)`. Each number stands for all spatial axes, or there is one for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolOptions {
    /// Sizes of the window.
    pub kernel: PerAxis,
    /// From one window to the next; the kernel's size if `None`.
    pub stride: Option<PerAxis>,
    /// Elements windows may reach over both ends, at most half a window; 0 by default.
    pub padding: PerAxis,
    /// From one element of a window to the next, of maximum pools; 1 by default.
    pub dilation: PerAxis,
    /// Whether a last window that lies only partly inside counts, if it begins inside; no by default.
    pub ceil: bool,
    /// Whether an average counts the padding (not what lies beyond it) as zeros; yes by default.
    pub count_padding: bool,
    /// What an average divides by instead of the number of elements.
    pub divisor: Option<usize>,
}

impl PoolOptions {
    /// Windows of this size, side by side.
    #[track_caller]
    pub fn new(kernel: impl Into<PerAxis>) -> PoolOptions {
        let (padding, dilation) = (0.into(), 1.into());
        let (ceil, count_padding, divisor) = (false, true, None);
        PoolOptions { kernel: kernel.into(), stride: None, padding, dilation, ceil, count_padding, divisor }
    }

    /// Sets the stride.
    #[track_caller]
    pub fn stride(self, stride: impl Into<PerAxis>) -> PoolOptions {
        PoolOptions { stride: Some(stride.into()), ..self }
    }

    /// Sets the padding.
    #[track_caller]
    pub fn padding(self, padding: impl Into<PerAxis>) -> PoolOptions {
        PoolOptions { padding: padding.into(), ..self }
    }

    /// Sets the dilation.
    #[track_caller]
    pub fn dilation(self, dilation: impl Into<PerAxis>) -> PoolOptions {
        PoolOptions { dilation: dilation.into(), ..self }
    }

    /// Sets whether a last window that lies only partly inside counts.
    pub fn ceil(self, ceil: bool) -> PoolOptions {
        PoolOptions { ceil, ..self }
    }

    /// Sets whether an average counts the padding as zeros.
    pub fn count_padding(self, count_padding: bool) -> PoolOptions {
        PoolOptions { count_padding, ..self }
    }

    /// Sets what an average divides by.
    pub fn divisor(self, divisor: usize) -> PoolOptions {
        PoolOptions { divisor: Some(divisor), ..self }
    }

    #[track_caller]
    pub(crate) fn windows(&self, name: &str, axes: usize) -> Windows {
        Windows {
            axes,
            kernel: self.kernel.spread(name, "kernel", axes, 1),
            stride: self.stride.unwrap_or(self.kernel).spread(name, "stride", axes, 1),
            padding: self.padding.spread(name, "padding", axes, 0),
            dilation: self.dilation.spread(name, "dilation", axes, 1),
            ceil: self.ceil,
        }
    }
}

impl From<usize> for PoolOptions {
    fn from(kernel: usize) -> PoolOptions {
        PoolOptions::new(kernel)
    }
}

impl<const N: usize> From<[usize; N]> for PoolOptions {
    #[track_caller]
    fn from(kernel: [usize; N]) -> PoolOptions {
        PoolOptions::new(kernel)
    }
}

/// The options as the kernels take them: three numbers each.
#[derive(Clone, Copy, Hash, Debug)]
pub(crate) struct Windows {
    axes: usize,
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
    ceil: bool,
}

impl Windows {
    /// How many windows fit along each axis.
    fn count(&self, input: [usize; 3]) -> Result<[usize; 3], String> {
        let Windows { axes, kernel, stride, padding, dilation, ceil } = *self;
        for axis in 3 - axes..3 {
            let reach = spatial::reach(kernel[axis], dilation[axis]);
            if padding[axis] > reach / 2 {
                let pad = padding[axis];
                return Err(format!("padding {pad} is more than half of the {reach} elements a window reaches over"));
            }
            if input[axis] == 0 {
                return Err(format!("spatial axis {} is empty", axis + axes - 3));
            }
        }
        let mut output = spatial::positions(axes, input, kernel, stride, padding, dilation)?;
        for axis in 3 - axes..3 {
            let room = input[axis] + 2 * padding[axis] - spatial::reach(kernel[axis], dilation[axis]);
            // One more window, unless it would begin beyond the input.
            let extra = ceil && !room.is_multiple_of(stride[axis]);
            output[axis] += (extra && output[axis] * stride[axis] < input[axis] + padding[axis]) as usize;
        }
        Ok(output)
    }

    pub(crate) fn geometry(&self, planes: usize, input: [usize; 3], output: [usize; 3]) -> PoolGeometry {
        let Windows { kernel, stride, padding, dilation, .. } = *self;
        PoolGeometry { planes, input, kernel, stride, padding, dilation, output }
    }

    /// The shape rule.
    pub(crate) fn output(&self, input: &Shape) -> Result<Shape, String> {
        check_rank(input, self.axes)?;
        Ok(spatial::shape(input[0], input[1], self.count(spatial::sizes(input, self.axes))?, self.axes))
    }
}

fn check_rank(shape: &Shape, axes: usize) -> Result<(), String> {
    if shape.rank() == axes + 2 {
        return Ok(());
    }
    Err(format!("the input needs batch, channels and {axes} spatial axes, {} in all", axes + 2))
}

/// The windows of `operation` if it is a maximum pool over two axes.
pub(crate) fn plane_windows(operation: &dyn Operation) -> Option<Windows> {
    let MaxPool(windows) = (operation as &dyn Any).downcast_ref::<MaxPool>()?;
    (windows.axes == 2).then_some(*windows)
}

/// The largest element of each window.
#[track_caller]
pub(crate) fn max_by_windows(x: &Tensor, windows: Windows) -> Tensor {
    Tensor::record(MaxPool(windows), &[x])
}

const MAX_POOL: [&str; 3] = ["max_pool1d", "max_pool2d", "max_pool3d"];

/// The largest element of each window, and its position in its plane.
#[derive(Debug)]
struct MaxPool(Windows);

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        MAX_POOL[self.0.axes - 1]
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        self.0.hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let shape = self.0.output(&inputs[0].shape)?;
        Ok(vec![Meta::new(shape, inputs[0].dtype), Meta::new(shape, DType::I64)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (shape, axes) = (step.inputs[0].shape(), self.0.axes);
        let place = Place { scatter: true, axes, plane: spatial::sizes(&shape, axes) };
        Ok(vec![Some(Tensor::record(place, &[&step.gradient(0), &step.outputs[1]]))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            DType::F64 => self.fill::<f64>(call),
            DType::I32 => self.fill::<i32>(call),
            DType::I64 => self.fill::<i64>(call),
            DType::U8 | DType::Bool => self.fill::<u8>(call),
        }
        Ok(())
    }
}

impl MaxPool {
    fn fill<T: Element>(&self, call: &mut Call) {
        let (x, shape, out) = (call.input::<T>(0), call.shape(0), call.output_meta(0).shape);
        let (from, to) = (spatial::sizes(&shape, self.0.axes), spatial::sizes(&out, self.0.axes));
        let geometry = self.0.geometry(shape[0] * shape[1], from, to);
        let [y, positions] = call.outputs();
        pool::max_forward::<T>(&geometry, x, y.as_mut_slice(), positions.as_mut_slice());
    }
}

/// Numbers `[B, C, …]` put at positions of a plane of zeros (adding up where they meet), or taken from positions of a
/// plane; the two are one another's gradient.
#[derive(Debug)]
struct Place {
    scatter: bool,
    axes: usize,
    /// The sizes of the planes that are scattered into.
    plane: [usize; 3],
}

impl Operation for Place {
    fn name(&self) -> &'static str {
        if self.scatter { "scatter_plane" } else { "gather_plane" }
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (self.scatter, self.axes, self.plane).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (x, positions) = (inputs[0], inputs[1].shape);
        let shape = match self.scatter {
            true => spatial::shape(positions[0], positions[1], self.plane, self.axes),
            false => positions,
        };
        Ok(vec![Meta::new(shape, x.dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let plane = spatial::sizes(&step.inputs[0].shape(), self.axes);
        let back = Place { scatter: !self.scatter, axes: self.axes, plane };
        Ok(vec![Some(Tensor::record(back, &[&step.gradient(0), &step.inputs[1]])), None])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
        Ok(())
    }
}

impl Place {
    fn fill<T: Float>(&self, call: &mut Call) {
        let (x, positions, shape) = (call.input::<T>(0), call.input::<i64>(1), call.shape(1));
        let planes = shape[0] * shape[1];
        match self.scatter {
            true => pool::scatter_plane(planes, self.plane.iter().product(), positions, x, call.output::<T>(0)),
            false => {
                let size = call.shape(0)[2..].iter().product();
                pool::gather_plane(planes, size, positions, x, call.output::<T>(0));
            }
        }
    }
}

/// The sum of each window's real elements, or the transpose of that: each number added to all elements of its window.
#[derive(Debug)]
struct SumPool {
    transposed: bool,
    windows: Windows,
    /// The spatial sizes of what comes out.
    size: [usize; 3],
}

impl Operation for SumPool {
    fn name(&self) -> &'static str {
        if self.transposed { "sum_pool_transpose" } else { "sum_pool" }
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (self.transposed, self.windows, self.size).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let Meta { shape, dtype } = inputs[0];
        if !dtype.is_float() {
            return Err(format!("takes a floating dtype, not {dtype}; convert with .to(DType::F32)"));
        }
        Ok(vec![Meta::new(spatial::shape(shape[0], shape[1], self.size, self.windows.axes), dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let size = spatial::sizes(&step.inputs[0].shape(), self.windows.axes);
        let back = SumPool { transposed: !self.transposed, windows: self.windows, size };
        Ok(vec![Some(Tensor::record(back, &[&step.gradient(0)]))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
        Ok(())
    }
}

impl SumPool {
    fn fill<T: Float>(&self, call: &mut Call) {
        let (x, shape) = (call.input::<T>(0), call.shape(0));
        let (planes, given) = (shape[0] * shape[1], spatial::sizes(&shape, self.windows.axes));
        match self.transposed {
            false => pool::sum_forward(&self.windows.geometry(planes, given, self.size), x, call.output::<T>(0)),
            true => pool::sum_backward(&self.windows.geometry(planes, self.size, given), x, call.output::<T>(0)),
        }
    }
}

/// Sums over `size` neighbours along axis 1 of `[B, N, L]`, window i beginning `before` elements before element i; what
/// is not there counts as zero.
#[track_caller]
pub(crate) fn neighbour_sum(x: &Tensor, size: usize, before: usize) -> Tensor {
    let shape = x.shape();
    let windows = Windows {
        axes: 2,
        kernel: [1, size, 1],
        stride: [1; 3],
        padding: [0, before, 0],
        dilation: [1; 3],
        ceil: false,
    };
    let sum = SumPool { transposed: false, windows, size: [1, shape[1], shape[2]] };
    Tensor::record(sum, &[&x.unsqueeze(1)]).squeeze(1)
}

/// How many elements each window holds, as a `[…]` plane; with the padding or without.
fn window_sizes(windows: &Windows, input: [usize; 3], output: [usize; 3], count_padding: bool) -> Vec<f64> {
    let along = |axis: usize| -> Vec<f64> {
        let (pad, size) = (windows.padding[axis], input[axis]);
        let (low, high) = if count_padding { (0, size + 2 * pad) } else { (pad, size + pad) };
        let window = |at: usize| {
            let start = at * windows.stride[axis];
            (start + windows.kernel[axis]).min(high).saturating_sub(start.max(low)) as f64
        };
        (0..output[axis]).map(window).collect()
    };
    let [depth, height, width] = [along(0), along(1), along(2)];
    let plane = |d: &f64| height.iter().flat_map(|h| width.iter().map(move |w| d * h * w)).collect::<Vec<_>>();
    depth.iter().flat_map(plane).collect()
}

impl Tensor {
    #[track_caller]
    fn pool_windows(&self, name: &str, axes: usize, options: PoolOptions) -> (Windows, [usize; 3]) {
        let (shape, windows) = (self.shape(), options.windows(name, axes));
        let output = windows.output(&shape).unwrap_or_else(|message| panic!("{name}: {shape}: {message}"));
        (windows, spatial::sizes(&output, axes))
    }

    #[track_caller]
    fn max_pool(&self, axes: usize, options: impl Into<PoolOptions>) -> [Tensor; 2] {
        let windows = options.into().windows(MAX_POOL[axes - 1], axes);
        let both = Tensor::record_many(MaxPool(windows), &[self]);
        both.try_into().expect("a maximum pool has two outputs")
    }

    #[track_caller]
    fn sum_pool(&self, name: &str, axes: usize, options: PoolOptions) -> (Tensor, Windows) {
        let (windows, size) = self.pool_windows(name, axes, options);
        assert!(windows.dilation == [1; 3], "{name}: takes no dilation");
        (Tensor::record(SumPool { transposed: false, windows, size }, &[self]), windows)
    }

    #[track_caller]
    fn avg_pool(&self, name: &str, axes: usize, options: PoolOptions) -> Tensor {
        let (sum, windows) = self.sum_pool(name, axes, options);
        if let Some(divisor) = options.divisor {
            return sum * (1.0 / divisor as f64);
        }
        let (from, to) = (spatial::sizes(&self.shape(), axes), spatial::sizes(&sum.shape(), axes));
        let sizes = window_sizes(&windows, from, to, options.count_padding);
        if sizes.iter().all(|size| *size == sizes[0]) {
            return sum * (1.0 / sizes[0]);
        }
        let shares: Vec<f64> = sizes.iter().map(|size| 1.0 / size).collect();
        let shape = Shape::new(&to[3 - axes..]);
        sum * Tensor::from_slice(&shares, shape).to(self.dtype())
    }

    #[track_caller]
    fn lp_pool(&self, name: &str, axes: usize, p: f64, options: PoolOptions) -> Tensor {
        assert!(p > 0.0 && p.is_finite(), "{name}: order {p} must be above 0 and finite");
        let power = if p == 2.0 { self.square() } else { self.abs().pow(p) };
        let (sum, _) = power.sum_pool(name, axes, options);
        if p == 2.0 { sum.sqrt() } else { sum.pow(1.0 / p) }
    }

    /// Splits each spatial axis into `size` parts as even as possible, which may overlap by one, and folds them with
    /// `whole`, the pool of everything. Axis by axis; where the parts are equal, by one pool.
    #[track_caller]
    fn adaptive(
        &self,
        name: &str,
        axes: usize,
        size: PerAxis,
        pool: impl Fn(&Tensor, PoolOptions) -> Tensor,
    ) -> Tensor {
        let shape = self.shape();
        check_rank(&shape, axes).unwrap_or_else(|message| panic!("{name}: {shape}: {message}"));
        let size = size.spread(name, "size", axes, 1);
        let size = &size[3 - axes..];
        let empty = |at: &usize| shape[at + 2] == 0 || size[*at] == 0;
        assert!(!(0..axes).any(|at| empty(&at)), "{name}: {shape} to {size:?}: an axis is empty");
        let even: Vec<usize> =
            (0..axes).map(|a| if shape[a + 2].is_multiple_of(size[a]) { shape[a + 2] / size[a] } else { 1 }).collect();
        let mut result = if even.iter().all(|&k| k == 1) {
            self.clone()
        } else {
            pool(self, PoolOptions::new(PerAxis::from(&even[..])))
        };
        // The last axis first: of equal elements, the first in row-major order then stays the winner.
        for at in (0..axes).rev().filter(|&at| !shape[at + 2].is_multiple_of(size[at])) {
            let (axis, from) = (at as i32 + 2, shape[at + 2]);
            let part = |i: usize| {
                let (start, end) = (i * from / size[at], ((i + 1) * from).div_ceil(size[at]));
                let mut kernel = vec![1; axes];
                kernel[at] = end - start;
                pool(&result.narrow(axis, start, end - start), PoolOptions::new(PerAxis::from(&kernel[..])))
            };
            let parts: Vec<Tensor> = (0..size[at]).map(part).collect();
            result = cat(&parts, axis);
        }
        result
    }

    /// The mean over all spatial axes: `[B, C, …] → [B, C]`.
    #[track_caller]
    pub fn global_avg_pool(&self) -> Tensor {
        self.mean(self.spatial_axes("global_avg_pool"))
    }

    /// The largest element over all spatial axes: `[B, C, …] → [B, C]`. Equal largest ones share the gradient.
    #[track_caller]
    pub fn global_max_pool(&self) -> Tensor {
        self.max(self.spatial_axes("global_max_pool"))
    }

    #[track_caller]
    fn spatial_axes(&self, name: &str) -> Vec<i32> {
        let shape = self.shape();
        assert!(shape.rank() > 2, "{name}: {shape}: the input needs batch, channels and at least one spatial axis");
        (2..shape.rank() as i32).collect()
    }
}

macro_rules! methods {
    ($axes:literal $max:ident $indices:ident $avg:ident $lp:ident $adaptive_avg:ident $adaptive_max:ident) => {
        impl Tensor {
            #[doc = concat!("The largest element of each window over ", $axes, " spatial axes: `[B, C, …] → [B, C, …]`.")]
            /// Of equal largest elements the first takes the gradient; NaN wins over everything, padding never wins.
            ///
            /// # Panics
            /// If the number of axes does not fit, a window is larger than the padded input, or padding exceeds half a
            /// window.
            #[track_caller]
            pub fn $max(&self, options: impl Into<PoolOptions>) -> Tensor {
                let [y, _] = self.max_pool($axes, options);
                y
            }

            #[doc = concat!("As [`Tensor::", stringify!($max), "`], with the position of each maximum in its input plane:")]
            /// a row-major index, as `i64`.
            #[track_caller]
            pub fn $indices(&self, options: impl Into<PoolOptions>) -> (Tensor, Tensor) {
                let [y, positions] = self.max_pool($axes, options);
                (y, positions)
            }

            #[doc = concat!("The mean of each window over ", $axes, " spatial axes: `[B, C, …] → [B, C, …]`.")]
            /// Padding counts as zeros unless the options say otherwise.
            #[track_caller]
            pub fn $avg(&self, options: impl Into<PoolOptions>) -> Tensor {
                self.avg_pool(stringify!($avg), $axes, options.into())
            }

            #[doc = concat!("The `p`-norm of each window over ", $axes, " spatial axes: `(Σ|x|ᵖ)^(1/p)`.")]
            #[track_caller]
            pub fn $lp(&self, p: f64, options: impl Into<PoolOptions>) -> Tensor {
                self.lp_pool(stringify!($lp), $axes, p, options.into())
            }

            #[doc = concat!("The mean of each of `size` parts of ", $axes, " spatial axes.")]
            /// Part i of n reaches from `⌊i·L/n⌋` to `⌈(i+1)·L/n⌉`.
            #[track_caller]
            pub fn $adaptive_avg(&self, size: impl Into<PerAxis>) -> Tensor {
                let name = stringify!($adaptive_avg);
                self.adaptive(name, $axes, size.into(), |x, part| x.avg_pool(name, $axes, part))
            }

            #[doc = concat!("The largest element of each of `size` parts of ", $axes, " spatial axes;")]
            #[doc = concat!("parts as in [`Tensor::", stringify!($adaptive_avg), "`].")]
            #[track_caller]
            pub fn $adaptive_max(&self, size: impl Into<PerAxis>) -> Tensor {
                self.adaptive(stringify!($adaptive_max), $axes, size.into(), |x, part| x.max_pool($axes, part)[0].clone())
            }
        }
    };
}

methods!(1 max_pool1d max_pool1d_with_indices avg_pool1d lp_pool1d adaptive_avg_pool1d adaptive_max_pool1d);
methods!(2 max_pool2d max_pool2d_with_indices avg_pool2d lp_pool2d adaptive_avg_pool2d adaptive_max_pool2d);
methods!(3 max_pool3d max_pool3d_with_indices avg_pool3d lp_pool3d adaptive_avg_pool3d adaptive_max_pool3d);

/// Calls `visit(window, element)` for each real element of each window of a plane, both as row-major indices.
fn elements(windows: &Windows, input: [usize; 3], output: [usize; 3], mut visit: impl FnMut(usize, usize)) {
    let place = |i: usize, sizes: [usize; 3]| [i / sizes[2] / sizes[1], i / sizes[2] % sizes[1], i % sizes[2]];
    let taps = windows.kernel.iter().product::<usize>();
    for at in 0..output.iter().product::<usize>() * taps {
        let (p, k) = (place(at / taps, output), place(at % taps, windows.kernel));
        let read = |a: usize| {
            let position = p[a] * windows.stride[a] + k[a] * windows.dilation[a];
            position.checked_sub(windows.padding[a]).filter(|&i| i < input[a])
        };
        if let (Some(z), Some(y), Some(x)) = (read(0), read(1), read(2)) {
            visit(at / taps, (z * input[1] + y) * input[2] + x);
        }
    }
}

/// A fold of each window in plain loops, from the windows' elements.
fn reference(
    shape: &[usize],
    options: PoolOptions,
    fold: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
) -> impl Fn(&[Vec<f64>]) -> Vec<f64> + Send + Sync + 'static {
    let (axes, shape) = (shape.len() - 2, Shape::new(shape));
    let windows = options.windows("reference", axes);
    move |x| {
        let input = spatial::sizes(&shape, axes);
        let output = windows.count(input).expect("the cases fit");
        let (size, count) = (input.iter().product::<usize>(), output.iter().product::<usize>());
        let mut lists = vec![Vec::new(); shape[0] * shape[1] * count];
        for plane in 0..shape[0] * shape[1] {
            elements(&windows, input, output, |w, i| lists[plane * count + w].push(x[0][plane * size + i]));
        }
        lists.iter().map(|list| fold(list)).collect()
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let of = |kernel: usize| PoolOptions::new(kernel);
    let uneven = PoolOptions::new([2, 3]).stride([1, 2]).padding([1, 0]);
    let largest = |x: &[f64]| x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let max = |shape: &[usize], options: PoolOptions| {
        let axes = shape.len() - 2;
        Case::new(format!("max {shape:?} {options:?}"), &[shape], move |x| x[0].max_pool(axes, options)[0].clone())
            .reference(reference(shape, options, largest))
    };
    let sum = |x: &[f64]| x.iter().sum::<f64>();
    let avg = |shape: &[usize], options: PoolOptions, fold: fn(&[f64]) -> f64| {
        let axes = shape.len() - 2;
        Case::new(format!("avg {shape:?} {options:?}"), &[shape], move |x| x[0].avg_pool("avg_pool", axes, options))
            .reference(reference(shape, options, fold))
    };
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let spread = |x: &[Tensor]| {
        let windows = PoolOptions::new(3).stride(2).padding(1).windows("", 2);
        Tensor::record(SumPool { transposed: true, windows, size: [1, 4, 3] }, &[&x[0]]).square()
    };
    let plane = |x: &Tensor| [1, x.size(-2), x.size(-1)];
    let scattered = move |x: &[Tensor]| {
        let (y, positions) = x[0].max_pool2d_with_indices(sized(3, 1));
        let place = Place { scatter: true, axes: 2, plane: plane(&x[0]) };
        Tensor::record(place, &[&y.square(), &positions])
    };
    let gathered = move |x: &[Tensor]| {
        let (_, positions) = x[0].max_pool2d_with_indices(sized(2, 1));
        let place = Place { scatter: false, axes: 2, plane: plane(&x[0]) };
        Tensor::record(place, &[&x[1], &positions]).square()
    };
    vec![
        Row {
            name: "max_pool1d",
            cases: vec![
                max(&[2, 3, 5], of(2)),
                max(&[1, 2, 9], sized(3, 2).padding(1).dilation(2)),
                max(&[2, 0, 4], of(2)),
                Case::new("positions", &[], |_| {
                    let x = Tensor::from_slice(&[1.0, 1.0, 0.0, 3.0, 4.0, 4.0], [1, 2, 3]);
                    x.max_pool1d_with_indices(PoolOptions::new(2).stride(1)).1
                })
                .discrete()
                .reference(|_| vec![0.0, 1.0, 1.0, 1.0]),
                Case::new("adaptive, uneven", &[&[1, 2, 7]], |x| x[0].adaptive_max_pool1d(3)).reference(|x| {
                    let part =
                        |x: &[f64]| [x[0].max(x[1]).max(x[2]), x[2].max(x[3]).max(x[4]), x[4].max(x[5]).max(x[6])];
                    x[0].chunks(7).flat_map(part).collect()
                }),
            ],
        },
        Row {
            name: "max_pool2d",
            cases: vec![
                max(&[2, 2, 4, 5], of(2)),
                max(&[1, 2, 5, 4], sized(3, 2).padding(1)),
                max(&[1, 1, 4, 6], uneven),
                max(&[1, 2, 5, 6], sized(2, 3).padding(1).ceil(true)),
                max(&[1, 1, 6, 4], sized(3, 2).ceil(true)),
                max(&[0, 2, 3, 3], of(3)),
                Case::new("of a view", &[&[3, 4, 2]], |x| x[0].t().unsqueeze(0).flip(3).max_pool2d(2).square()),
                Case::new("global", &[&[2, 2, 3, 2]], |x| x[0].global_max_pool())
                    .reference(move |x| x[0].chunks(6).map(largest).collect()),
                Case::new("adaptive", &[&[1, 2, 5, 4]], |x| x[0].adaptive_max_pool2d([3, 2]).square()),
                Case::new("adaptive, larger", &[&[1, 1, 3, 2]], |x| x[0].adaptive_max_pool2d([5, 3])),
            ],
        },
        Row {
            name: "max_pool3d",
            cases: vec![
                max(&[1, 2, 3, 4, 2], sized(2, 1)),
                max(&[1, 1, 2, 3, 3], of(2).padding(1)),
                max(&[0, 1, 2, 2, 2], of(2)),
            ],
        },
        Row {
            name: "scatter_plane",
            cases: vec![
                Case::new("scatter maxima that meet", &[&[1, 2, 4, 5]], scattered),
                Case::new("scatter nothing", &[&[0, 2, 4, 5]], scattered),
            ],
        },
        Row {
            name: "gather_plane",
            cases: vec![
                Case::new("gather by another's maxima", &[&[2, 1, 3, 3], &[2, 1, 3, 3]], gathered),
                Case::new("gather nothing", &[&[0, 1, 3, 3], &[0, 1, 3, 3]], gathered),
            ],
        },
        Row {
            name: "sum_pool",
            cases: vec![
                avg(&[2, 3, 5], of(2), mean),
                avg(&[1, 2, 5], sized(3, 2).padding(1), |x| x.iter().sum::<f64>() / 3.0),
                avg(&[1, 2, 4, 5], of(2), mean),
                avg(&[1, 2, 5, 4], sized(3, 2).padding(1).count_padding(false), mean),
                avg(&[1, 1, 6, 4], sized(3, 2).ceil(true).count_padding(false), mean),
                avg(&[1, 1, 3, 4], uneven, |x| x.iter().sum::<f64>() / 6.0),
                avg(&[1, 1, 3, 4, 3], sized(2, 1), mean),
                avg(&[0, 2, 3, 3], of(3), mean),
                Case::new("ceil beyond the counted padding", &[&[1, 1, 4]], |x| {
                    x[0].avg_pool1d(PoolOptions::new(3).stride(2).padding(1).ceil(true))
                })
                .reference(|x| {
                    let x = &x[0];
                    vec![(x[0] + x[1]) / 3.0, (x[1] + x[2] + x[3]) / 3.0, x[3] / 2.0]
                }),
                Case::new("neighbours", &[&[1, 4, 3]], |x| neighbour_sum(&x[0], 3, 1).square()),
                Case::new("lp of order 2", &[&[1, 1, 5, 5]], |x| x[0].lp_pool2d(2.0, sized(3, 2))).reference(
                    reference(&[1, 1, 5, 5], sized(3, 2), move |x| {
                        sum(&x.iter().map(|x| x * x).collect::<Vec<_>>()).sqrt()
                    }),
                ),
                Case::new("lp of order 3", &[&[1, 2, 6]], |x| x[0].lp_pool1d(3.0, 2)).domain(0.3, 2.0),
                Case::new("global", &[&[2, 2, 3, 2]], |x| x[0].global_avg_pool())
                    .reference(move |x| x[0].chunks(6).map(mean).collect()),
                Case::new("adaptive", &[&[1, 2, 5, 4]], |x| x[0].adaptive_avg_pool2d([3, 2])),
                Case::new("adaptive, even", &[&[1, 2, 4, 6]], |x| x[0].adaptive_avg_pool2d([2, 3]))
                    .reference(reference(&[1, 2, 4, 6], of(2), mean)),
                Case::new("adaptive, larger", &[&[1, 1, 3]], |x| x[0].adaptive_avg_pool1d(4)).reference(|x| {
                    let x = &x[0];
                    vec![x[0], (x[0] + x[1]) / 2.0, (x[1] + x[2]) / 2.0, x[2]]
                }),
            ],
        },
        Row {
            name: "sum_pool_transpose",
            cases: vec![Case::new("spread", &[&[1, 2, 2, 2]], spread), Case::new("nothing", &[&[0, 2, 2, 2]], spread)],
        },
    ]
}

/// Windows of one size, `stride` apart.
fn sized(size: usize, stride: usize) -> PoolOptions {
    PoolOptions::new(size).stride(stride)
}
