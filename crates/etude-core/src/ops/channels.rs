//! Convolutions and pools of images with sixteen channels side by side, `[B, C/16, H, W, 16]`: what the layout pass of
//! frozen functions (`runtime/layout.rs`) turns ordinary ones into.

use crate::operation::{Call, Meta, Operation, bytes};
use crate::ops::conv::PlaneSteps;
use crate::ops::pool::{PoolOptions, Windows, max_by_windows};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::conv::ConvGeometry;
use etude_kernels::conv::channels::{self, BLOCK, winograd};
use etude_kernels::{Cost, Float};
use std::hash::{Hash, Hasher};

/// `[B, C, H, W]` as `[B, C/16, H, W, 16]`.
#[track_caller]
pub(crate) fn to_blocks(x: &Tensor) -> Tensor {
    let shape = x.shape();
    let split = x.reshape([shape[0], shape[1] / BLOCK, BLOCK, shape[2], shape[3]]); // [B, C/16, 16, H, W]
    split.permute([0, 1, 3, 4, 2])
}

/// `[B, C/16, H, W, 16]` as `[B, C, H, W]`.
#[track_caller]
pub(crate) fn from_blocks(x: &Tensor) -> Tensor {
    x.permute([0, 1, 4, 2, 3]).reshape(plane_shape(&x.shape()))
}

/// `[B, C, H, W]` of `[B, C/16, H, W, 16]`.
fn plane_shape(blocks: &[usize]) -> [usize; 4] {
    [blocks[0], blocks[1] * BLOCK, blocks[2], blocks[3]]
}

/// A weight `[O, C, KH, KW]` as the convolution of images in blocks takes it: `[O/16, C/16, KH, KW, 16 of C, 16 of O]`, or
/// `[O/16, C, KH, KW, 16 of O]` for plain images.
#[track_caller]
pub(crate) fn weight_to_blocks(w: &Tensor, plain: bool) -> Tensor {
    let s = w.shape();
    match plain {
        true => w.reshape([s[0] / BLOCK, BLOCK, s[1], s[2], s[3]]).permute([0, 2, 3, 4, 1]),
        false => w.reshape([s[0] / BLOCK, BLOCK, s[1] / BLOCK, BLOCK, s[2], s[3]]).permute([0, 2, 4, 5, 3, 1]),
    }
}

/// The way back from [`weight_to_blocks`].
#[track_caller]
fn weight_from_blocks(w: &Tensor) -> Tensor {
    let s = w.shape();
    match s.rank() {
        5 => w.permute([0, 4, 1, 2, 3]).reshape([s[0] * BLOCK, s[1], s[2], s[3]]),
        _ => w.permute([0, 5, 1, 4, 2, 3]).reshape([s[0] * BLOCK, s[1] * BLOCK, s[2], s[3]]),
    }
}

/// A weight `[O, C, 3, 3]` for the way of Winograd: `[36, O/16, C, 16]`.
#[track_caller]
pub(crate) fn weight_to_points(w: &Tensor) -> Tensor {
    Tensor::record(WinogradWeights, &[w])
}

/// The way back from [`weight_to_points`].
#[track_caller]
fn weight_from_points(points: &Tensor) -> Tensor {
    let s = points.shape();
    let (outputs, inputs) = (s[1] * BLOCK, s[2]);
    let matrix = Tensor::from_slice(winograd::PLAIN.as_flattened(), [3, 6]).to(points.dtype());
    let rows = matrix.matmul(&points.reshape([6, 6 * outputs * inputs])); // [3, 6·O·C]
    let rows = rows.reshape([3, 6, outputs * inputs]).permute([1, 0, 2]).reshape([6, 3 * outputs * inputs]);
    let both = matrix.matmul(&rows).reshape([3, 3, s[1], inputs, BLOCK]); // columns, rows, O/16, C, 16
    both.permute([2, 4, 3, 1, 0]).reshape([outputs, inputs, 3, 3])
}

/// What is done to a convolution's sums: a bias `[O]` is added, then an image laid out as the output, then what is below 0
/// becomes 0.
#[derive(Clone, Default)]
pub(crate) struct Tail {
    pub bias: Option<Tensor>,
    pub residual: Option<Tensor>,
    pub relu: bool,
}

/// The convolution of `x`, `[B, C/16, H, W, 16]` or a plain `[B, C, H, W]`, with a weight from [`weight_to_blocks`]
/// or [`weight_to_points`].
#[track_caller]
pub(crate) fn convolve(x: &Tensor, w: &Tensor, steps: PlaneSteps, tail: &Tail) -> Tensor {
    let operation =
        Convolution { steps, bias: tail.bias.is_some(), residual: tail.residual.is_some(), relu: tail.relu };
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(&tail.bias).chain(&tail.residual).collect();
    Tensor::record(operation, &inputs)
}

/// A convolution with what follows it; inputs are image, weight, and of bias and residual what there is.
#[derive(Debug, Hash)]
struct Convolution {
    steps: PlaneSteps,
    bias: bool,
    residual: bool,
    relu: bool,
}

impl Convolution {
    fn geometry(&self, x: &[usize], w: &[usize]) -> Result<ConvGeometry, String> {
        let input = match (x, w) {
            (&[b, c, height, width, BLOCK], &[_, inputs, _, _, BLOCK, BLOCK]) if c == inputs => {
                [b, c * BLOCK, height, width]
            }
            (&[b, c, height, width, BLOCK], &[36, _, inputs, BLOCK]) if c * BLOCK == inputs => {
                [b, inputs, height, width]
            }
            (&[b, c, height, width], &[_, inputs, _, _, BLOCK]) if c == inputs => [b, c, height, width],
            _ => {
                return Err("an image [B, C/16, H, W, 16] takes a weight [O/16, C/16, KH, KW, 16, 16] or \
                            [36, O/16, C, 16], a plain image [B, C, H, W] one of [O/16, C, KH, KW, 16]"
                    .into());
            }
        };
        let weight = if w.len() == 4 { [w[1] * BLOCK, 3, 3] } else { [w[0] * BLOCK, w[2], w[3]] };
        self.steps.geometry(input, weight)
    }

    fn compute<T: Float>(&self, call: &mut Call) -> Result<(), String> {
        let (x, w) = (call.shape(0), call.shape(1));
        let g = self.geometry(&x, &w)?;
        let tail = channels::Tail {
            bias: self.bias.then(|| call.input::<T>(2)),
            residual: self.residual.then(|| call.input::<T>(2 + self.bias as usize)),
            relu: self.relu,
        };
        let (image, weight) = (call.input(0), call.input::<T>(1));
        match (x.rank(), w.rank()) {
            (4, _) => channels::forward_planes(&g, image, weight, &tail, call.output(0)),
            (_, 6) => channels::forward(&g, image, weight, &tail, call.output(0)),
            _ => winograd::forward(&g, image, weight, &tail, call.output(0)),
        }
        Ok(())
    }
}

impl Operation for Convolution {
    fn name(&self) -> &'static str {
        "conv2d_channels"
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        self.hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let x = inputs[0];
        let g = self.geometry(&x.shape, &inputs[1].shape)?;
        if inputs.iter().any(|input| input.dtype != x.dtype) || !x.dtype.is_float() {
            return Err("all inputs must be of one floating dtype".into());
        }
        let shape = Shape::new(&[g.batch, g.out_channels / BLOCK, g.output[1], g.output[2], BLOCK]);
        if self.bias && inputs[2].shape != [g.out_channels] {
            return Err(format!("the bias must be [{}], not {}", g.out_channels, inputs[2].shape));
        }
        if let Some(residual) = inputs.get(2 + self.bias as usize).filter(|residual| residual.shape != shape) {
            return Err(format!("the residual must be {shape} like the output, not {}", residual.shape));
        }
        Ok(vec![Meta::new(shape, x.dtype)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let x = &inputs[0];
        let plain = if x.rank() == 4 { x.clone() } else { from_blocks(x) };
        let weight = match inputs[1].rank() {
            4 => weight_from_points(&inputs[1]),
            _ => weight_from_blocks(&inputs[1]),
        };
        let mut y = plain.conv2d(&weight, self.steps.options()); // [B, O, H', W']
        if self.bias {
            y = y + inputs[2].reshape([inputs[2].count(), 1, 1]);
        }
        y = to_blocks(&y);
        if self.residual {
            y = y + &inputs[2 + self.bias as usize];
        }
        Some(vec![if self.relu { y.relu() } else { y }])
    }

    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        let geometry = self.geometry(&inputs[0].shape, &inputs[1].shape);
        let operations = geometry.map_or(0, |geometry| 2 * geometry.multiply_adds());
        Cost { operations: operations as u64, bytes: bytes(inputs) + bytes(outputs) }
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.compute::<f32>(call),
            _ => self.compute::<f64>(call),
        }
    }
}

/// See [`weight_to_points`].
#[derive(Debug)]
struct WinogradWeights;

impl WinogradWeights {
    fn compute<T: Float>(&self, call: &mut Call) -> Result<(), String> {
        let shape = call.shape(0);
        winograd::weights::<T>(shape[0], shape[1], call.input(0), call.output(0));
        Ok(())
    }
}

impl Operation for WinogradWeights {
    fn name(&self) -> &'static str {
        "winograd_weights"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let Meta { shape, dtype } = inputs[0];
        match shape[..] {
            [outputs, inputs, 3, 3] if outputs % BLOCK == 0 && dtype.is_float() => {
                Ok(vec![Meta::new(Shape::new(&[36, outputs / BLOCK, inputs, BLOCK]), dtype)])
            }
            _ => Err(format!("takes a floating weight [O, C, 3, 3] with O a multiple of {BLOCK}, not {dtype} {shape}")),
        }
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let s = inputs[0].shape();
        let (blocks, size) = (s[0] / BLOCK, s[0] * s[1]);
        let matrix = Tensor::from_slice(winograd::WEIGHTS.as_flattened(), [6, 3]).to(inputs[0].dtype());
        let weight = inputs[0].reshape([blocks, BLOCK, s[1], 3, 3]).permute([3, 4, 0, 2, 1]); // rows, columns, …
        let rows = matrix.matmul(&weight.reshape([3, 3 * size])).reshape([6, 3, size]); // [6, 3, O·C]
        let both = matrix.matmul(&rows.permute([1, 0, 2]).reshape([3, 6 * size])).reshape([6, 6, size]);
        Some(vec![both.permute([1, 0, 2]).reshape([36, blocks, s[1], BLOCK])])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.compute::<f32>(call),
            _ => self.compute::<f64>(call),
        }
    }
}

/// The largest element of each window of `x`, `[B, C/16, H, W, 16]`.
#[track_caller]
pub(crate) fn max_pool(x: &Tensor, windows: Windows) -> Tensor {
    Tensor::record(MaxPool(windows), &[x])
}

#[derive(Debug)]
struct MaxPool(Windows);

impl MaxPool {
    /// Output shape for input shape.
    fn shape(&self, x: &Shape) -> Result<Shape, String> {
        let [.., BLOCK] = x[..] else { return Err(format!("takes [B, C/16, H, W, 16], not {x}")) };
        if x.rank() != 5 {
            return Err(format!("takes [B, C/16, H, W, 16], not {x}"));
        }
        let plain = self.0.output(&Shape::new(&x[..4]))?;
        Ok(plain.iter().copied().chain([BLOCK]).collect())
    }

    fn fill<T: Float>(&self, call: &mut Call) -> Result<(), String> {
        let (x, y) = (call.shape(0), call.output_meta(0).shape);
        let geometry = self.0.geometry(x[0] * x[1], [1, x[2], x[3]], [1, y[2], y[3]]);
        channels::max_pool::<T>(&geometry, call.input(0), call.output(0));
        Ok(())
    }
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d_channels"
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        self.0.hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let Meta { shape, dtype } = inputs[0];
        if !dtype.is_float() {
            return Err(format!("takes a floating dtype, not {dtype}"));
        }
        Ok(vec![Meta::new(self.shape(&shape)?, dtype)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        Some(vec![to_blocks(&max_by_windows(&from_blocks(&inputs[0]), self.0))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let steps = |stride: [usize; 2], padding: [usize; 2]| PlaneSteps { stride, padding, dilation: [1; 2] };
    let convolution = |name: &str, shapes: [&[usize]; 2], steps: PlaneSteps| {
        Case::new(name, &shapes, move |x| convolve(&x[0], &x[1], steps, &Tail::default()).square())
    };
    let tail = |x: &[Tensor]| Tail { bias: Some(x[2].clone()), residual: Some(x[3].clone()), relu: true };
    let (one, two) = (steps([1; 2], [0; 2]), steps([2, 1], [1, 0]));
    let convolutions = vec![
        convolution("one tap", [&[1, 1, 1, 3, 16], &[1, 1, 1, 1, 16, 16]], one),
        convolution("several taps", [&[1, 1, 3, 2, 16], &[1, 1, 2, 2, 16, 16]], two),
        convolution("a plain image", [&[2, 3, 4, 5], &[1, 3, 2, 3, 16]], steps([1, 2], [1, 2])),
        convolution("nothing", [&[0, 1, 2, 2, 16], &[1, 1, 1, 1, 16, 16]], one),
        Case::new("with a tail", &[&[1, 1, 2, 2, 16], &[1, 1, 1, 1, 16, 16], &[16], &[1, 1, 2, 2, 16]], move |x| {
            convolve(&x[0], &x[1], one, &tail(x))
        }),
        Case::new(
            "a plain image with a tail",
            &[&[1, 2, 3, 3], &[1, 2, 2, 2, 16], &[16], &[1, 1, 2, 2, 16]],
            move |x| convolve(&x[0], &x[1], one, &tail(x)),
        ),
    ];
    let fast = Case::new("the way of Winograd", &[&[1, 1, 3, 5, 16], &[16, 16, 3, 3]], move |x| {
        convolve(&x[0], &weight_to_points(&x[1]), steps([1; 2], [1; 2]), &Tail::default())
    });
    let convolutions = convolutions.into_iter().chain([fast.once()]).collect();
    // Written as `[C, 16 · 3 · 3]`, so that any C may be drawn.
    let weights = |inputs: usize| {
        Case::new(format!("{inputs} inputs"), &[&[inputs, 16 * 9]], |x| {
            let kernels = x[0].narrow(1, 0, 16 * 9).reshape([x[0].size(0), 16, 3, 3]);
            weight_to_points(&kernels.permute([1, 0, 2, 3])).square()
        })
    };
    let weights = vec![weights(1), weights(3), weights(0)];
    let pool = |name: &str, shape: &[usize], options: PoolOptions| {
        Case::new(name, &[shape], move |x| max_pool(&x[0], options.windows("max_pool2d", 2)).square())
    };
    let pools = vec![
        pool("squares", &[1, 1, 4, 5, 16], PoolOptions::new(2)),
        pool("beyond the edge", &[1, 1, 5, 3, 16], PoolOptions::new(3).stride(2).padding(1)),
        pool("nothing", &[0, 1, 3, 3, 16], PoolOptions::new(2)),
    ];
    vec![
        Row { name: "conv2d_channels", cases: convolutions },
        Row { name: "winograd_weights", cases: weights },
        Row { name: "max_pool2d_channels", cases: pools },
    ]
}
