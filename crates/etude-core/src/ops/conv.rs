//! Convolutions over one to three spatial axes: the forward pass, the gradient of its input (which is the transposed
//! convolution) and the gradient of its weight. Each is linear in both inputs, and the gradients of each are the other
//! two, so that gradients of any order stay within the three.

use crate::operation::{Backward, Call, Meta, Operation, WeightAxis, bytes};
use crate::ops::spatial::{self, PerAxis};
use crate::ops::{Case, Row};
use crate::{DType, Tensor};
use etude_kernels::conv::{self, ConvGeometry};
use etude_kernels::{Cost, Float};
use std::any::Any;
use std::hash::{Hash, Hasher};

/// How a kernel moves over its input. Written as a chain: `ConvOptions::new().stride(2).padding([1, 0])`; each number
/// stands for all spatial axes, or there is one for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvOptions {
    /// From one position of the kernel to the next; 1 by default.
    pub stride: PerAxis,
    /// Zeros on both sides of the input (of a transposed convolution: so much is cut off both sides of the result); 0 by
    /// default.
    pub padding: PerAxis,
    /// From one element of the kernel to the next; 1 by default.
    pub dilation: PerAxis,
    /// Groups of channels that do not see each other; 1 by default.
    pub groups: usize,
    /// Elements a transposed convolution adds at the end of each axis, to choose among the sizes that a stride makes
    /// one; 0 by default.
    pub output_padding: PerAxis,
}

impl ConvOptions {
    /// Stride 1, no padding, dilation 1, one group.
    pub fn new() -> ConvOptions {
        ConvOptions { stride: 1.into(), padding: 0.into(), dilation: 1.into(), groups: 1, output_padding: 0.into() }
    }

    /// Sets the stride.
    #[track_caller]
    pub fn stride(self, stride: impl Into<PerAxis>) -> ConvOptions {
        ConvOptions { stride: stride.into(), ..self }
    }

    /// Sets the padding.
    #[track_caller]
    pub fn padding(self, padding: impl Into<PerAxis>) -> ConvOptions {
        ConvOptions { padding: padding.into(), ..self }
    }

    /// Sets the dilation.
    #[track_caller]
    pub fn dilation(self, dilation: impl Into<PerAxis>) -> ConvOptions {
        ConvOptions { dilation: dilation.into(), ..self }
    }

    /// Sets the number of groups.
    pub fn groups(self, groups: usize) -> ConvOptions {
        ConvOptions { groups, ..self }
    }

    /// Sets the output padding.
    #[track_caller]
    pub fn output_padding(self, output_padding: impl Into<PerAxis>) -> ConvOptions {
        ConvOptions { output_padding: output_padding.into(), ..self }
    }

    #[track_caller]
    fn steps(&self, name: &str, axes: usize) -> Steps {
        Steps {
            stride: self.stride.spread(name, "stride", axes, 1),
            padding: self.padding.spread(name, "padding", axes, 0),
            dilation: self.dilation.spread(name, "dilation", axes, 1),
            output_padding: self.output_padding.spread(name, "output_padding", axes, 0),
            groups: self.groups,
        }
    }
}

impl Default for ConvOptions {
    fn default() -> ConvOptions {
        ConvOptions::new()
    }
}

/// The options as the kernels take them: three numbers each.
#[derive(Clone, Copy, Hash, Debug)]
struct Steps {
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
    output_padding: [usize; 3],
    groups: usize,
}

/// How the kernel of a convolution over two axes in one group moves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PlaneSteps {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

impl PlaneSteps {
    /// The same as options.
    pub(crate) fn options(&self) -> ConvOptions {
        ConvOptions::new().stride(self.stride).padding(self.padding).dilation(self.dilation)
    }

    /// The geometry for an input `[batch, channels, height, width]` and a weight of `[outputs, height, width]`.
    pub(crate) fn geometry(&self, input: [usize; 4], weight: [usize; 3]) -> Result<ConvGeometry, String> {
        let [batch, in_channels, height, width] = input;
        let wide = |of: [usize; 2], first: usize| [first, of[0], of[1]];
        let (input, kernel) = ([1, height, width], [1, weight[1], weight[2]]);
        let (stride, padding, dilation) = (wide(self.stride, 1), wide(self.padding, 0), wide(self.dilation, 1));
        let output = spatial::positions(2, input, kernel, stride, padding, dilation)?;
        let (groups, out_channels) = (1, weight[0]);
        Ok(ConvGeometry { batch, groups, in_channels, out_channels, input, kernel, stride, padding, dilation, output })
    }
}

/// Which of `x`, `w` and `y` is computed from the other two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Part {
    /// `y` from `x` and `w`.
    Forward,
    /// `x` from `y` and `w`.
    Input,
    /// `w` from `x` and `y`.
    Weight,
}

/// One of the three convolutions.
#[derive(Debug)]
struct Convolution {
    part: Part,
    axes: usize,
    steps: Steps,
    /// The spatial sizes of what is computed, where it is the gradient of something that had them already. A stride makes
    /// several input sizes one, so they cannot always be found again.
    size: Option<[usize; 3]>,
}

const NAMES: [[&str; 3]; 3] = [
    ["conv1d", "conv2d", "conv3d"],
    ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"],
    ["conv1d_weight", "conv2d_weight", "conv3d_weight"],
];

impl Convolution {
    fn geometry(&self, a: &[usize], b: &[usize]) -> Result<ConvGeometry, String> {
        let Steps { stride, padding, dilation, output_padding, groups } = self.steps;
        let axes = self.axes;
        if a.len() != axes + 2 || b.len() != axes + 2 {
            return Err(format!(
                "both inputs need a first axis, channels and {axes} spatial axes, {} in all",
                axes + 2
            ));
        }
        if groups == 0 {
            return Err("groups must be at least 1".into());
        }
        let divides = |channels: usize, whose: &str| match channels % groups {
            0 => Ok(channels),
            _ => Err(format!("{groups} groups do not divide the {channels} {whose}")),
        };
        let (first, second) = (spatial::sizes(a, axes), spatial::sizes(b, axes));
        let (batch, in_channels, out_channels, input, kernel, output);
        match self.part {
            Part::Forward => {
                (batch, in_channels) = (a[0], divides(a[1], "input channels")?);
                out_channels = divides(b[0], "output channels (the weight's first axis)")?;
                if in_channels / groups != b[1] {
                    let each = in_channels / groups;
                    return Err(format!(
                        "the weight takes {} channels a group, the input has {each} ({in_channels} in {groups} groups)",
                        b[1]
                    ));
                }
                (input, kernel) = (first, second);
                let rule = || spatial::positions(axes, input, kernel, stride, padding, dilation);
                output = self.size.map_or_else(rule, Ok)?;
            }
            Part::Input => {
                (batch, out_channels) = (a[0], divides(a[1], "input channels")?);
                in_channels = b[1] * groups;
                if out_channels != b[0] {
                    return Err(format!("the weight takes {} channels, the input has {out_channels}", b[0]));
                }
                (output, kernel) = (first, second);
                let rule = || transposed_size(axes, output, kernel, stride, padding, dilation, output_padding);
                input = self.size.map_or_else(rule, Ok)?;
            }
            Part::Weight => {
                (batch, in_channels) = (a[0], divides(a[1], "input channels")?);
                out_channels = divides(b[1], "output channels")?;
                (input, output, kernel) = (first, second, self.size.unwrap_or([1; 3]));
            }
        }
        Ok(ConvGeometry { batch, groups, in_channels, out_channels, input, kernel, stride, padding, dilation, output })
    }

    fn compute<T: Float>(&self, call: &mut Call) -> Result<(), String> {
        let g = self.geometry(&call.shape(0), &call.shape(1))?;
        let (a, b) = (call.input::<T>(0), call.input::<T>(1));
        let kernel = match self.part {
            Part::Forward => conv::forward::<T>,
            Part::Input => conv::input_gradient::<T>,
            Part::Weight => conv::weight_gradient::<T>,
        };
        kernel(&g, a, b, call.output(0));
        Ok(())
    }

    /// Another of the three, with the same steps, for `size`.
    #[track_caller]
    fn other(&self, part: Part, a: &Tensor, b: &Tensor, size: &[usize]) -> Tensor {
        let size = Some(spatial::sizes(size, self.axes));
        Tensor::record(Convolution { part, axes: self.axes, steps: self.steps, size }, &[a, b])
    }
}

/// The steps of `operation` if it is a plain convolution over two axes, in one group.
pub(crate) fn plane_steps(operation: &dyn Operation) -> Option<PlaneSteps> {
    let convolution = (operation as &dyn Any).downcast_ref::<Convolution>()?;
    let Convolution { part: Part::Forward, axes: 2, steps, size: None } = convolution else { return None };
    let pair = |of: [usize; 3]| [of[1], of[2]];
    let Steps { stride, padding, dilation, groups, .. } = *steps;
    let steps = PlaneSteps { stride: pair(stride), padding: pair(padding), dilation: pair(dilation) };
    (groups == 1).then_some(steps)
}

/// The size whose forward convolution gives `output`, and `output_padding` more.
fn transposed_size(
    axes: usize,
    output: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
    output_padding: [usize; 3],
) -> Result<[usize; 3], String> {
    let mut input = [1; 3];
    for axis in 3 - axes..3 {
        let name = axis + axes - 3;
        if kernel[axis] == 0 || stride[axis] == 0 || dilation[axis] == 0 {
            return Err(format!("kernel, stride and dilation must be at least 1, one is 0 in spatial axis {name}"));
        }
        let (extra, most) = (output_padding[axis], stride[axis].max(dilation[axis]));
        if extra >= most {
            return Err(format!("output_padding {extra} must be below stride or dilation ({most}) in axis {name}"));
        }
        let whole = output[axis].checked_sub(1).map(|steps| {
            steps.saturating_mul(stride[axis]).saturating_add(spatial::reach(kernel[axis], dilation[axis]))
        });
        let cut = padding[axis].saturating_mul(2);
        input[axis] = match whole.and_then(|whole| whole.saturating_add(extra).checked_sub(cut)) {
            Some(size) if size > 0 => size,
            _ => return Err(format!("nothing is left of spatial axis {name} when padding takes {cut} elements away")),
        };
    }
    Ok(input)
}

impl Operation for Convolution {
    fn name(&self) -> &'static str {
        NAMES[self.part as usize][self.axes - 1]
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (self.part, self.axes, self.steps, self.size).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (a, b) = (inputs[0], inputs[1]);
        let g = self.geometry(&a.shape, &b.shape)?;
        if a.dtype != b.dtype || !a.dtype.is_float() {
            return Err(format!("takes two of one floating dtype, not {} and {}", a.dtype, b.dtype));
        }
        let shape = match self.part {
            Part::Forward => spatial::shape(g.batch, g.out_channels, g.output, self.axes),
            Part::Input => spatial::shape(g.batch, g.in_channels, g.input, self.axes),
            Part::Weight => spatial::shape(g.out_channels, g.in_channels / g.groups, g.kernel, self.axes),
        };
        Ok(vec![Meta::new(shape, a.dtype)])
    }

    fn weight_axis(&self, inputs: &[Meta]) -> Option<WeightAxis> {
        let forward = self.part == Part::Forward && inputs.len() == 2;
        forward.then_some(WeightAxis { input: 1, weight: 0, output: 1 })
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (a, b, g) = (&step.inputs[0], &step.inputs[1], &step.gradient(0));
        let (a_shape, b_shape) = (a.shape(), b.shape());
        let by_a = step.needed[0].then(|| match self.part {
            Part::Forward => self.other(Part::Input, g, b, &a_shape),
            Part::Input => self.other(Part::Forward, g, b, &a_shape),
            Part::Weight => self.other(Part::Input, b, g, &a_shape),
        });
        let by_b = step.needed[1].then(|| match self.part {
            Part::Forward => self.other(Part::Weight, a, g, &b_shape),
            Part::Input => self.other(Part::Weight, g, a, &b_shape),
            Part::Weight => self.other(Part::Forward, a, g, &b_shape),
        });
        Ok(vec![by_a, by_b])
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

impl Tensor {
    #[track_caller]
    fn convolution(&self, part: Part, axes: usize, weight: &Tensor, options: ConvOptions) -> Tensor {
        let steps = options.steps(NAMES[part as usize][axes - 1], axes);
        Tensor::record(Convolution { part, axes, steps, size: None }, &[self, weight])
    }

    /// Convolution over one axis: see [`Tensor::conv2d`]. `[B, C, L]` with weight `[O, C/groups, K]` gives `[B, O, L']`.
    #[track_caller]
    pub fn conv1d(&self, weight: &Tensor, options: ConvOptions) -> Tensor {
        self.convolution(Part::Forward, 1, weight, options)
    }

    /// Convolution (strictly: cross-correlation) of `[B, C, H, W]` with weight `[O, C/groups, KH, KW]`, giving
    /// `[B, O, H', W']`:
    ///
    /// `y[b, o, p] = Σ_c Σ_t w[o, c, t] · x[b, c, p·stride + t·dilation − padding]`,
    ///
    /// where x is 0 outside, c runs over the channels of o's group, and
    /// `H' = ⌊(H + 2·padding − dilation·(KH−1) − 1) / stride⌋ + 1`. A bias is an addition of `[O, 1, 1]`.
    ///
    /// # Panics
    /// If channels, groups and weight do not go together, or the kernel is larger than the padded input.
    #[track_caller]
    pub fn conv2d(&self, weight: &Tensor, options: ConvOptions) -> Tensor {
        self.convolution(Part::Forward, 2, weight, options)
    }

    /// Convolution over three axes: see [`Tensor::conv2d`]. `[B, C, D, H, W]` with weight `[O, C/groups, KD, KH, KW]`.
    #[track_caller]
    pub fn conv3d(&self, weight: &Tensor, options: ConvOptions) -> Tensor {
        self.convolution(Part::Forward, 3, weight, options)
    }

    /// Transposed convolution over one axis: see [`Tensor::conv_transpose2d`].
    #[track_caller]
    pub fn conv_transpose1d(&self, weight: &Tensor, options: ConvOptions) -> Tensor {
        self.convolution(Part::Input, 1, weight, options)
    }

    /// Transposed convolution of `[B, C, H, W]` with weight `[C, O/groups, KH, KW]`, giving `[B, O, H', W']`: the gradient
    /// of a convolution with this weight by its input. Every element is spread, times the kernel, over the places the
    /// convolution would have read it from:
    /// `H' = (H−1)·stride − 2·padding + dilation·(KH−1) + output_padding + 1`.
    ///
    /// # Panics
    /// If channels, groups and weight do not go together, or nothing is left after padding is cut off.
    #[track_caller]
    pub fn conv_transpose2d(&self, weight: &Tensor, options: ConvOptions) -> Tensor {
        self.convolution(Part::Input, 2, weight, options)
    }

    /// Transposed convolution over three axes: see [`Tensor::conv_transpose2d`].
    #[track_caller]
    pub fn conv_transpose3d(&self, weight: &Tensor, options: ConvOptions) -> Tensor {
        self.convolution(Part::Input, 3, weight, options)
    }
}

/// Calls `visit(x index, w index, y index)` for every product of the definition.
fn products(g: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let count = |sizes: [usize; 3]| sizes.iter().product::<usize>();
    let place = |i: usize, sizes: [usize; 3]| [i / sizes[2] / sizes[1], i / sizes[2] % sizes[1], i % sizes[2]];
    let (inputs, taps, outputs) = (count(g.input), count(g.kernel), count(g.output));
    let (channels, rows) = (g.in_channels / g.groups, g.out_channels / g.groups);
    for at in 0..g.batch * g.out_channels * outputs * channels * taps {
        let (t, c) = (at % taps, at / taps % channels);
        let y = at / taps / channels;
        let (o, b) = (y / outputs % g.out_channels, y / outputs / g.out_channels);
        let (p, k) = (place(y % outputs, g.output), place(t, g.kernel));
        let read = |a: usize| (p[a] * g.stride[a] + k[a] * g.dilation[a]).checked_sub(g.padding[a]);
        if let (Some(z), Some(h), Some(w)) = (read(0), read(1), read(2))
            && z < g.input[0]
            && h < g.input[1]
            && w < g.input[2]
        {
            let plane = b * g.in_channels + o / rows * channels + c;
            visit(plane * inputs + (z * g.input[1] + h) * g.input[2] + w, (o * channels + c) * taps + t, y);
        }
    }
}

/// A call of one part on inputs of these shapes, held against the definition; `size` as in [`Convolution`].
fn case(part: Part, [a, b]: [&[usize]; 2], options: ConvOptions, size: Option<[usize; 3]>) -> Case {
    let axes = a.len() - 2;
    let name = NAMES[part as usize][axes - 1];
    let operation = move || Convolution { part, axes, steps: options.steps(name, axes), size };
    let g = operation().geometry(a, b).expect("the cases fit");
    Case::new(format!("{name} {a:?} × {b:?}"), &[a, b], move |x| Tensor::record(operation(), &[&x[0], &x[1]]))
        .reference(move |x| {
            let sizes = [g.output_size(), g.input_size(), g.weight_size()];
            let mut sum = vec![0.0; sizes[part as usize]];
            products(&g, |i, w, y| match part {
                Part::Forward => sum[y] += x[0][i] * x[1][w],
                Part::Input => sum[i] += x[0][y] * x[1][w],
                Part::Weight => sum[w] += x[0][i] * x[1][y],
            });
            sum
        })
}

pub(crate) fn rows() -> Vec<Row> {
    let plain = ConvOptions::new();
    let uneven = plain.stride([2, 1]).padding([1, 2]).dilation([1, 2]);
    let forward = |shapes, options| case(Part::Forward, shapes, options, None);
    let transposed = |shapes, options| case(Part::Input, shapes, options, None);
    let weight = |shapes, options, kernel| case(Part::Weight, shapes, options, Some(kernel));
    let cases = [
        [
            vec![
                forward([&[2, 3, 5], &[2, 3, 3]], plain),
                forward([&[1, 4, 7], &[2, 2, 2]], plain.stride(3).padding(2).dilation(2).groups(2)),
                forward([&[0, 2, 5], &[3, 2, 3]], plain),
                forward([&[2, 0, 5], &[3, 0, 3]], plain),
            ],
            vec![
                forward([&[2, 2, 3, 4], &[2, 2, 2, 3]], plain),
                forward([&[1, 2, 4, 3], &[1, 2, 3, 2]], uneven),
                forward([&[1, 2, 5, 4], &[4, 1, 2, 2]], plain.stride(2).groups(2)),
                forward([&[3, 1, 1, 1], &[2, 1, 1, 1]], plain),
                forward([&[0, 1, 3, 3], &[2, 1, 2, 2]], plain),
                forward([&[1, 0, 3, 3], &[2, 0, 2, 2]], plain),
                forward([&[1, 1, 2, 2], &[1, 1, 3, 3]], plain.padding(1)),
                Case::new("conv2d of views with a bias", &[&[2, 4, 3], &[1, 3, 2, 2], &[1, 1, 1]], |x| {
                    let image = x[0].permute([2, 0, 1]).unsqueeze(0).flip(-1);
                    (image.conv2d(&x[1], ConvOptions::new()) + &x[2]).square()
                }),
            ],
            vec![
                forward([&[1, 2, 3, 2, 2], &[2, 2, 2, 1, 2]], plain),
                forward([&[0, 2, 3, 2, 2], &[2, 2, 2, 1, 2]], plain),
                forward([&[1, 2, 3, 2, 3], &[2, 1, 2, 2, 1]], plain.stride([2, 1, 2]).padding([1, 0, 0]).groups(2)),
            ],
        ],
        [
            vec![
                transposed([&[2, 3, 4], &[3, 2, 3]], plain),
                transposed([&[0, 3, 4], &[3, 2, 3]], plain),
                transposed(
                    [&[1, 4, 3], &[4, 1, 2]],
                    plain.stride(3).padding(1).dilation(2).groups(2).output_padding(2),
                ),
            ],
            vec![
                transposed([&[2, 2, 2, 3], &[2, 1, 3, 2]], plain.stride(2).padding(1).output_padding(1)),
                transposed([&[1, 2, 3, 2], &[2, 2, 2, 2]], uneven.padding([1, 0])),
                // A dilation above the stride allows more output padding than the forward rule gives back.
                transposed([&[1, 1, 2, 2], &[1, 1, 2, 2]], plain.dilation(3).output_padding(2)),
                transposed([&[0, 2, 2, 2], &[2, 1, 2, 2]], plain),
            ],
            vec![
                transposed([&[1, 2, 2, 1, 2], &[2, 1, 2, 2, 1]], plain.stride([2, 1, 1]).output_padding([1, 0, 0])),
                transposed([&[1, 0, 2, 1, 2], &[0, 1, 2, 2, 1]], plain),
            ],
        ],
        [
            vec![
                weight([&[2, 2, 5], &[2, 1, 2]], plain.stride(2).groups(1), [1, 1, 3]),
                weight([&[0, 2, 5], &[0, 1, 2]], plain.stride(2), [1, 1, 3]),
            ],
            vec![
                weight([&[1, 2, 4, 3], &[1, 1, 2, 3]], uneven, [1, 3, 2]),
                weight([&[0, 2, 3, 3], &[0, 2, 2, 2]], plain, [1, 2, 2]),
                weight([&[2, 2, 3, 3], &[2, 2, 2, 2]], plain.groups(2), [1, 2, 2]),
            ],
            vec![
                weight([&[1, 1, 3, 2, 2], &[1, 2, 2, 1, 2]], plain, [2, 2, 1]),
                weight([&[0, 1, 3, 2, 2], &[0, 2, 2, 1, 2]], plain, [2, 2, 1]),
            ],
        ],
    ];
    let named = cases.into_iter().flatten().zip(NAMES.iter().flatten());
    named.map(|(cases, name)| Row { name, cases }).collect()
}
