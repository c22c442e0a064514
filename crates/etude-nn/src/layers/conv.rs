//! Convolutions and their transposes over one, two or three axes.

use crate::init::Init;
use crate::{Forward, Label, Module, Param};
use etude_core::{ConvOptions, PerAxis, Shape, Tensor};

/// A convolution over `AXES` spatial axes (LeCun et al., 1989): `[B, inputs, …] → [B, outputs, …]`, a cross-correlation
/// with a learned kernel a pair of channels, plus a bias. Use it as [`Conv1d`], [`Conv2d`] or [`Conv3d`].
///
/// Each axis of size `n` becomes `⌊(n + 2·padding − dilation·(kernel−1) − 1) / stride⌋ + 1`.
/// ```
/// # use etude_nn::*;
/// let conv = Conv2d::new(1, 6, 5).padding(2).init();
/// assert_eq!(conv.forward(&etude_core::ones([2, 1, 28, 28])).shape(), [2, 6, 28, 28]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Convolution<const AXES: usize> {
    /// `[outputs, inputs/groups, kernel…]`.
    pub weight: Param,
    /// `[outputs]`.
    pub bias: Option<Param>,
    #[module(skip)]
    options: ConvOptions,
    label: Label,
}

/// Convolution over sequences: `[B, C, L]`.
pub type Conv1d = Convolution<1>;
/// Convolution over pictures: `[B, C, H, W]`.
pub type Conv2d = Convolution<2>;
/// Convolution over volumes: `[B, C, D, H, W]`.
pub type Conv3d = Convolution<3>;

/// A transposed convolution: the gradient of a convolution by its input, as a layer that makes maps larger (Zeiler et
/// al., 2010). Use it as [`ConvTranspose1d`], [`ConvTranspose2d`] or [`ConvTranspose3d`].
///
/// Each axis of size `n` becomes `(n−1)·stride − 2·padding + dilation·(kernel−1) + output_padding + 1`.
#[derive(Module, Clone, Debug)]
pub struct TransposedConvolution<const AXES: usize> {
    /// `[inputs, outputs/groups, kernel…]`.
    pub weight: Param,
    /// `[outputs]`.
    pub bias: Option<Param>,
    #[module(skip)]
    options: ConvOptions,
    label: Label,
}

/// Transposed convolution over sequences.
pub type ConvTranspose1d = TransposedConvolution<1>;
/// Transposed convolution over pictures.
pub type ConvTranspose2d = TransposedConvolution<2>;
/// Transposed convolution over volumes.
pub type ConvTranspose3d = TransposedConvolution<3>;

/// A convolution before its parameters are drawn.
#[derive(Clone, Debug)]
pub struct ConvConfig<const AXES: usize> {
    inputs: usize,
    outputs: usize,
    kernel: PerAxis,
    options: ConvOptions,
    bias: bool,
    weights: Option<Init>,
}

/// A transposed convolution before its parameters are drawn.
#[derive(Clone, Debug)]
pub struct ConvTransposeConfig<const AXES: usize>(ConvConfig<AXES>);

impl<const AXES: usize> ConvConfig<AXES> {
    fn new(inputs: usize, outputs: usize, kernel: PerAxis) -> Self {
        ConvConfig { inputs, outputs, kernel, options: ConvOptions::new(), bias: true, weights: None }
    }

    /// Steps between positions; 1 unless said otherwise.
    #[must_use]
    #[track_caller]
    pub fn stride(mut self, stride: impl Into<PerAxis>) -> Self {
        self.options = self.options.stride(stride);
        self
    }

    /// Zeros put around the input; none unless said otherwise.
    #[must_use]
    #[track_caller]
    pub fn padding(mut self, padding: impl Into<PerAxis>) -> Self {
        self.options = self.options.padding(padding);
        self
    }

    /// Steps between the kernel's elements; 1 unless said otherwise.
    #[must_use]
    #[track_caller]
    pub fn dilation(mut self, dilation: impl Into<PerAxis>) -> Self {
        self.options = self.options.dilation(dilation);
        self
    }

    /// Groups of channels that do not see each other; one unless said otherwise.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.options = self.options.groups(groups);
        self
    }

    /// Whether a bias is added; it is unless said otherwise.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// How the weights start; uniform on ±`1/√fan_in` unless said otherwise, as PyTorch does.
    #[must_use]
    pub fn weights(mut self, init: Init) -> Self {
        self.weights = Some(init);
        self
    }

    /// Weight and bias for a weight of shape `[first, second/groups, kernel…]`.
    #[track_caller]
    fn draw(&self, first: usize, second: usize) -> (Param, Option<Param>) {
        let groups = self.options.groups;
        let (inputs, outputs) = (self.inputs, self.outputs);
        assert!(
            groups > 0 && inputs % groups == 0 && outputs % groups == 0,
            "convolution: {groups} groups do not divide {inputs} input and {outputs} output channels"
        );
        let mut shape = Shape::new(&[first, second / groups]);
        self.kernel.to_vec(AXES).into_iter().for_each(|size| shape.push(size));
        let fan: usize = shape[1..].iter().product();
        let weight = self.weights.unwrap_or(Init::Fan(fan)).make(shape);
        (Param::new(weight), self.bias.then(|| Param::new(Init::Fan(fan).make(outputs))))
    }

    fn label(&self, kind: &str) -> Label {
        let kernel: Vec<String> = self.kernel.to_vec(AXES).iter().map(usize::to_string).collect();
        Label::new(format!("{kind}{AXES}d {}→{}, {}", self.inputs, self.outputs, kernel.join("×")))
    }

    /// Draws the parameters.
    #[track_caller]
    pub fn init(self) -> Convolution<AXES> {
        let (weight, bias) = self.draw(self.outputs, self.inputs);
        Convolution { weight, bias, options: self.options, label: self.label("Conv") }
    }
}

impl<const AXES: usize> ConvTransposeConfig<AXES> {
    /// Steps between positions in the result; 1 unless said otherwise.
    #[must_use]
    #[track_caller]
    pub fn stride(self, stride: impl Into<PerAxis>) -> Self {
        ConvTransposeConfig(self.0.stride(stride))
    }

    /// How much is cut off both sides of the result; nothing unless said otherwise.
    #[must_use]
    #[track_caller]
    pub fn padding(self, padding: impl Into<PerAxis>) -> Self {
        ConvTransposeConfig(self.0.padding(padding))
    }

    /// Elements added at the end of each axis, to choose among the sizes a stride makes one.
    #[must_use]
    #[track_caller]
    pub fn output_padding(mut self, output_padding: impl Into<PerAxis>) -> Self {
        self.0.options = self.0.options.output_padding(output_padding);
        self
    }

    /// Steps between the kernel's elements; 1 unless said otherwise.
    #[must_use]
    #[track_caller]
    pub fn dilation(self, dilation: impl Into<PerAxis>) -> Self {
        ConvTransposeConfig(self.0.dilation(dilation))
    }

    /// Groups of channels that do not see each other; one unless said otherwise.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        ConvTransposeConfig(self.0.groups(groups))
    }

    /// Whether a bias is added; it is unless said otherwise.
    #[must_use]
    pub fn bias(self, bias: bool) -> Self {
        ConvTransposeConfig(self.0.bias(bias))
    }

    /// How the weights start; uniform on ±`1/√fan` unless said otherwise, as PyTorch does.
    #[must_use]
    pub fn weights(self, init: Init) -> Self {
        ConvTransposeConfig(self.0.weights(init))
    }

    /// Draws the parameters.
    #[track_caller]
    pub fn init(self) -> TransposedConvolution<AXES> {
        let (weight, bias) = self.0.draw(self.0.inputs, self.0.outputs);
        TransposedConvolution { weight, bias, options: self.0.options, label: self.0.label("ConvTranspose") }
    }
}

impl<const AXES: usize> Convolution<AXES> {
    /// A layer from `inputs` to `outputs` channels with a kernel of these sizes (one number for all axes, or one each).
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `Conv2d::new(…).option(…).init()`
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<PerAxis>) -> ConvConfig<AXES> {
        ConvConfig::new(inputs, outputs, kernel.into())
    }
}

impl<const AXES: usize> TransposedConvolution<AXES> {
    /// A layer from `inputs` to `outputs` channels with a kernel of these sizes (one number for all axes, or one each).
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<PerAxis>) -> ConvTransposeConfig<AXES> {
        ConvTransposeConfig(ConvConfig::new(inputs, outputs, kernel.into()))
    }
}

/// Adds `[C]` to `[B, C, …]`.
#[track_caller]
fn add_bias(y: Tensor, bias: &Option<Param>, axes: usize) -> Tensor {
    let Some(bias) = bias else { return y };
    let bias = bias.value();
    let mut shape = bias.shape();
    (0..axes).for_each(|_| shape.push(1));
    y + bias.reshape(shape)
}

impl<const AXES: usize> Forward for Convolution<AXES> {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            let weight = self.weight.value();
            let y = match AXES {
                1 => x.conv1d(&weight, self.options),
                2 => x.conv2d(&weight, self.options),
                _ => x.conv3d(&weight, self.options),
            };
            add_bias(y, &self.bias, AXES)
        })
    }
}

impl<const AXES: usize> Forward for TransposedConvolution<AXES> {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            let weight = self.weight.value();
            let y = match AXES {
                1 => x.conv_transpose1d(&weight, self.options),
                2 => x.conv_transpose2d(&weight, self.options),
                _ => x.conv_transpose3d(&weight, self.options),
            };
            add_bias(y, &self.bias, AXES)
        })
    }
}
