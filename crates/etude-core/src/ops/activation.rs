//! Activation functions. All but `relu` are expressions over primitives, which the compiler fuses into one pass; kinks
//! take the slope PyTorch gives them, which is that of the side the kink itself belongs to.

use crate::node::Source;
use crate::operation::{Backward, Kind, Meta, Operation};
use crate::ops::unary::erf_reference;
use crate::ops::{Case, Row};
use crate::{DType, Tensor};
use etude_kernels::tile::BinaryOp;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

/// `max(x, 0)` as an operation of its own, since its gradient needs only the result: the input need not be kept.
#[derive(Debug)]
struct Relu;

static RELU: Relu = Relu;

impl Operation for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        match inputs[0].dtype {
            DType::Bool => Err("does not take bool; convert with .to(…)".into()),
            _ => Ok(vec![inputs[0]]),
        }
    }

    fn kind(&self) -> Kind {
        Kind::Binary(BinaryOp::Max)
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let g = step.gradient(0);
        let flat = step.outputs[0].less_equal(0.0);
        Ok(vec![Some(flat.select(&Tensor::scalar(0.0, g.dtype()), &g)), None])
    }
}

/// `scale` and `alpha` of the self-normalising activation: the fixed point of mean 0 and variance 1 (Klambauer et al.,
/// 2017, equation 14).
const SELU: (f64, f64) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_2);

impl Tensor {
    /// `max(x, 0)`. The slope at 0 is 0.
    #[track_caller]
    pub fn relu(&self) -> Tensor {
        Tensor::record_source(Source::Table(&RELU), &[self, &Tensor::scalar(0.0, self.dtype())])
    }

    /// `min(x, 0)`, with slope 1 at 0: what `relu` leaves.
    #[track_caller]
    fn negative_part(&self) -> Tensor {
        self.greater(0.0).select(&Tensor::scalar(0.0, self.dtype()), self)
    }

    /// `x` where it is above 0, `slope·x` elsewhere.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        self.less_equal(0.0).select(&(self * slope), self)
    }

    /// [`Tensor::leaky_relu`] with a learned slope (He et al., 2015): `weight` has one number, or one for each channel
    /// (axis 1) of `[B, C, …]`.
    ///
    /// # Panics
    /// If there are neither one nor as many slopes as channels.
    #[track_caller]
    pub fn prelu(&self, weight: &Tensor) -> Tensor {
        let (shape, slopes) = (self.shape(), weight.count());
        let channels = if shape.rank() > 1 { shape[1] } else { 1 };
        assert!(
            slopes == 1 || slopes == channels,
            "prelu: {shape} has {channels} channels, the weight {slopes} slopes; one for all or one each are possible"
        );
        let mut line = vec![1; shape.rank()];
        if slopes > 1 {
            line[1] = slopes;
        }
        self.less_equal(0.0).select(&(self * weight.reshape(line)), self)
    }

    /// `x` where it is above 0, `alpha·(eˣ − 1)` elsewhere (Clevert et al., 2016).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        self.relu() + self.negative_part().expm1() * alpha
    }

    /// The self-normalising `scale·elu(x, alpha)` with fixed numbers (Klambauer et al., 2017).
    #[track_caller]
    pub fn selu(&self) -> Tensor {
        let (scale, alpha) = SELU;
        self.relu() * scale + self.negative_part().expm1() * (scale * alpha)
    }

    /// `max(x, 0) + min(0, alpha·(e^(x/alpha) − 1))`: an `elu` whose slope is 1 at 0 for every alpha (Barron, 2017).
    #[track_caller]
    pub fn celu(&self, alpha: f64) -> Tensor {
        self.relu() + (self.negative_part() * (1.0 / alpha)).expm1() * alpha
    }

    /// `x·Φ(x)`, Φ the normal distribution function (Hendrycks & Gimpel, 2016): `x/2·(1 + erf(x/√2))`.
    #[track_caller]
    pub fn gelu(&self) -> Tensor {
        self * ((self * FRAC_1_SQRT_2).erf() + 1.0) * 0.5
    }

    /// The approximation of [`Tensor::gelu`] that GPT-2 uses: `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    #[track_caller]
    pub fn gelu_tanh(&self) -> Tensor {
        let inner = (self.square() * 0.044715 + 1.0) * self * (FRAC_2_SQRT_PI / SQRT_2);
        self * (inner.tanh() + 1.0) * 0.5
    }

    /// `x·σ(x)`, also called swish (Ramachandran et al., 2017).
    #[track_caller]
    pub fn silu(&self) -> Tensor {
        self * self.sigmoid()
    }

    /// `x·tanh(ln(1 + eˣ))` (Misra, 2019).
    #[track_caller]
    pub fn mish(&self) -> Tensor {
        self * self.softplus().tanh()
    }

    /// `ln(1 + eˣ)`, without overflow: `max(x, 0) + ln(1 + e^(−|x|))`.
    #[track_caller]
    pub fn softplus(&self) -> Tensor {
        // Not abs(), whose slope at 0 is 0: this one's is 1, so that the slope at 0 comes out as ½, to any order.
        let minus = self.greater(0.0).select(&-self, self);
        self.relu() + minus.exp().log1p()
    }

    /// `ln(1 + e^(beta·x)) / beta`: the larger beta, the nearer to `relu`.
    #[track_caller]
    pub fn softplus_with(&self, beta: f64) -> Tensor {
        (self * beta).softplus() * (1.0 / beta)
    }

    /// `x / (1 + |x|)`.
    #[track_caller]
    pub fn softsign(&self) -> Tensor {
        self / (self.abs() + 1.0)
    }

    /// `min(max(x, low), high)` with slope 0 at both ends ([`Tensor::clamp`] has ½ there).
    #[track_caller]
    pub fn hardtanh(&self, low: f64, high: f64) -> Tensor {
        let number = |value: f64| Tensor::scalar(value, self.dtype());
        let above = self.greater_equal(high).select(&number(high), self);
        self.less_equal(low).select(&number(low), &above)
    }

    /// `min(max(x, 0), 6)` (Howard et al., 2017).
    #[track_caller]
    pub fn relu6(&self) -> Tensor {
        self.hardtanh(0.0, 6.0)
    }

    /// `min(max(x/6 + ½, 0), 1)`: [`Tensor::sigmoid`] in three straight pieces (Howard et al., 2019).
    #[track_caller]
    pub fn hardsigmoid(&self) -> Tensor {
        (self + 3.0).relu6() * (1.0 / 6.0)
    }

    /// `x·hardsigmoid(x)` (Howard et al., 2019).
    #[track_caller]
    pub fn hardswish(&self) -> Tensor {
        self * self.hardsigmoid()
    }

    /// `ln σ(x)`, without overflow.
    #[track_caller]
    pub fn logsigmoid(&self) -> Tensor {
        -(-self).softplus()
    }

    /// `x − tanh x`.
    #[track_caller]
    pub fn tanhshrink(&self) -> Tensor {
        self - self.tanh()
    }

    /// `x` drawn towards 0 by `lambda`, 0 within `±lambda`.
    #[track_caller]
    pub fn softshrink(&self, lambda: f64) -> Tensor {
        let inside = self.abs().less_equal(lambda);
        (self - self.sign() * lambda).masked_fill(&inside, 0.0)
    }

    /// `x`, but 0 within `±lambda`.
    #[track_caller]
    pub fn hardshrink(&self, lambda: f64) -> Tensor {
        self.masked_fill(&self.abs().less_equal(lambda), 0.0)
    }

    /// `x` where it is above `limit`, `value` elsewhere.
    #[track_caller]
    pub fn threshold(&self, limit: f64, value: f64) -> Tensor {
        self.masked_fill(&self.less_equal(limit), value)
    }

    /// The first half along `axis` times the logistic function of the second half (Dauphin et al., 2017).
    ///
    /// # Panics
    /// If the axis cannot be halved.
    #[track_caller]
    pub fn glu(&self, axis: i32) -> Tensor {
        let size = self.size(axis);
        assert!(size.is_multiple_of(2), "glu: axis {axis} of {} has an odd size and no halves", self.shape());
        self.narrow(axis, 0, size / 2) * self.narrow(axis, size / 2, size / 2).sigmoid()
    }
}

/// A case of a function of one value an element.
fn case(name: &'static str, run: fn(&Tensor) -> Tensor, reference: fn(f64) -> f64) -> Case {
    let of_all = move |x: &[Vec<f64>]| x[0].iter().map(|&value| reference(value)).collect();
    Case::new(name, &[&[3, 5]], move |x| run(&x[0])).domain(-4.0, 4.0).reference(of_all)
}

/// The slopes of `f` at `points`, which the second-order expression of a kink must give exactly.
fn slopes_at(name: &'static str, f: fn(&Tensor) -> Tensor, points: &'static [f64], slopes: &'static [f64]) -> Case {
    let run = move |_: &[Tensor]| {
        let x = Tensor::from_slice(points, points.len()).variable();
        crate::grad(&f(&x).sum(..), &[&x]).expect("activations have gradients").remove(0)
    };
    Case::new(name, &[], run).discrete().reference(|_| slopes.to_vec())
}

pub(crate) fn rows() -> Vec<Row> {
    let relu = vec![
        case("relu", Tensor::relu, |x| x.max(0.0)),
        Case::new("relu of nothing", &[&[2, 0]], |x| x[0].relu()),
        Case::new("relu of a column", &[&[5, 1]], |x| x[0].relu()),
        Case::new("relu of whole numbers", &[&[7]], |x| x[0].relu())
            .dtype(DType::I32)
            .reference(|x| x[0].iter().map(|x| x.max(0.0)).collect()),
        slopes_at("slope of relu at 0", Tensor::relu, &[-1.0, 0.0, 1.0], &[0.0, 0.0, 1.0]),
        Case::new("relu keeps NaN", &[], |_| Tensor::from_slice(&[f64::NAN], 1).relu())
            .discrete()
            .reference(|_| vec![f64::NAN]),
    ];
    let activations = vec![
        case("leaky_relu", |x| x.leaky_relu(0.1), |x| if x > 0.0 { x } else { 0.1 * x }),
        Case::new("prelu", &[&[2, 3, 2], &[3]], |x| x[0].prelu(&x[1])).reference(|x| {
            let slope = |i: usize| if x[0][i] > 0.0 { 1.0 } else { x[1][i / 2 % 3] };
            (0..12).map(|i| x[0][i] * slope(i)).collect()
        }),
        Case::new("prelu with one slope", &[&[5], &[1]], |x| x[0].prelu(&x[1])),
        Case::new("prelu of nothing", &[&[0, 3], &[3]], |x| x[0].prelu(&x[1])),
        Case::new("gelu and softplus of nothing", &[&[2, 0]], |x| x[0].gelu() * x[0].softplus()),
        case("elu", |x| x.elu(1.3), |x| if x > 0.0 { x } else { 1.3 * x.exp_m1() }),
        case("selu", Tensor::selu, |x| SELU.0 * if x > 0.0 { x } else { SELU.1 * x.exp_m1() }),
        case("celu", |x| x.celu(0.7), |x| if x > 0.0 { x } else { 0.7 * (x / 0.7).exp_m1() }),
        case("gelu", Tensor::gelu, |x| x * 0.5 * (1.0 + erf_reference(x * FRAC_1_SQRT_2))).domain(-2.5, 2.5),
        case("gelu_tanh", Tensor::gelu_tanh, |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }),
        case("silu", Tensor::silu, |x| x / (1.0 + (-x).exp())),
        case("mish", Tensor::mish, |x| x * x.exp().ln_1p().tanh()),
        case("softplus", Tensor::softplus, |x| x.exp().ln_1p()),
        case("softplus_with", |x| x.softplus_with(3.0), |x| (3.0 * x).exp().ln_1p() / 3.0),
        case("softsign", Tensor::softsign, |x| x / (1.0 + x.abs())),
        case("hardtanh", |x| x.hardtanh(-0.5, 1.5), |x| x.clamp(-0.5, 1.5)),
        case("relu6", |x| (x * 3.0).relu6(), |x| (3.0 * x).clamp(0.0, 6.0)),
        case("hardsigmoid", Tensor::hardsigmoid, |x| (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        case("hardswish", Tensor::hardswish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        case("logsigmoid", Tensor::logsigmoid, |x| -(-x).exp().ln_1p()),
        case("tanhshrink", Tensor::tanhshrink, |x| x - x.tanh()),
        case("softshrink", |x| x.softshrink(0.5), |x| x.signum() * (x.abs() - 0.5).max(0.0)),
        case("hardshrink", |x| x.hardshrink(0.5), |x| if x.abs() > 0.5 { x } else { 0.0 }),
        case("threshold", |x| x.threshold(0.5, -2.0), |x| if x > 0.5 { x } else { -2.0 }),
        Case::new("glu", &[&[2, 4, 3]], |x| x[0].glu(1)).reference(|x| {
            let at = |b: usize, c: usize, i: usize| x[0][(b * 4 + c) * 3 + i];
            let each = |i: usize| at(i / 6, i / 3 % 2, i % 3) / (1.0 + (-at(i / 6, i / 3 % 2 + 2, i % 3)).exp());
            (0..12).map(each).collect()
        }),
        slopes_at("slope of softplus", Tensor::softplus, &[-800.0, 0.0, 800.0], &[0.0, 0.5, 1.0]),
        slopes_at("slope of logsigmoid", Tensor::logsigmoid, &[-800.0, 0.0, 800.0], &[1.0, 0.5, 0.0]),
        slopes_at("slope of elu", |x| x.elu(0.5), &[-800.0, 0.0, 800.0], &[0.0, 0.5, 1.0]),
        slopes_at("slope of relu6", Tensor::relu6, &[0.0, 3.0, 6.0], &[0.0, 1.0, 0.0]),
        slopes_at("slope of leaky_relu", |x| x.leaky_relu(0.25), &[-1.0, 0.0, 1.0], &[0.25, 0.25, 1.0]),
        slopes_at("slope of mish", Tensor::mish, &[0.0], &[0.6]),
        slopes_at(
            "second slope of softplus",
            |x| crate::grad(&x.softplus().sum(..), &[x]).expect("softplus has a gradient").remove(0),
            &[-800.0, 0.0, 800.0],
            &[0.0, 0.25, 0.0],
        ),
    ];
    vec![Row { name: "relu", cases: relu }, Row { name: "activations", cases: activations }]
}
