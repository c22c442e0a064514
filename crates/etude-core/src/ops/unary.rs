//! Functions of one value an element: a table row each.

use crate::node::Source;
use crate::operation::{Backward, Kind, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Tensor};
use etude_kernels::tile::UnaryOp;

/// A unary operation: everything about it.
#[derive(Debug)]
pub struct Unary {
    name: &'static str,
    op: UnaryOp,
    /// The gradient `g · f'(x)`, from the input `x`, the output `y` and the gradient `g` of the output.
    gradient: fn(&Tensor, &Tensor, &Tensor) -> Tensor,
    /// Where the tests draw inputs from: an interval on which the function is smooth.
    domain: (f64, f64),
    /// `f(x)`, the plain reference.
    reference: fn(f64) -> f64,
}

const fn row(
    name: &'static str,
    op: UnaryOp,
    gradient: fn(&Tensor, &Tensor, &Tensor) -> Tensor,
    domain: (f64, f64),
    reference: fn(f64) -> f64,
) -> Unary {
    Unary { name, op, gradient, domain, reference }
}

/// `d/dx` is 0 wherever it exists.
fn flat(x: &Tensor, _y: &Tensor, _g: &Tensor) -> Tensor {
    x.zeros_like()
}

/// Every unary operation. The order is that of [`UnaryOp`].
static TABLE: [Unary; 29] = [
    row("neg", UnaryOp::Neg, |_, _, g| -g, (-3.0, 3.0), |x| -x),
    row("abs", UnaryOp::Abs, |x, _, g| g * x.sign(), (0.1, 3.0), f64::abs),
    row("sign", UnaryOp::Sign, flat, (0.1, 3.0), |x| if x > 0.0 { 1.0 } else { -1.0 }),
    row("floor", UnaryOp::Floor, flat, (0.1, 0.9), f64::floor),
    row("ceil", UnaryOp::Ceil, flat, (0.1, 0.9), f64::ceil),
    row("round", UnaryOp::Round, flat, (0.6, 1.4), f64::round_ties_even),
    row("exp", UnaryOp::Exp, |_, y, g| g * y, (-3.0, 3.0), f64::exp),
    row("expm1", UnaryOp::Expm1, |_, y, g| g * (y + 1.0), (-2.0, 2.0), f64::exp_m1),
    row("ln", UnaryOp::Ln, |x, _, g| g / x, (0.3, 4.0), f64::ln),
    row("log1p", UnaryOp::Log1p, |x, _, g| g / (x + 1.0), (-0.5, 4.0), f64::ln_1p),
    row("sqrt", UnaryOp::Sqrt, |_, y, g| g / y * 0.5, (0.3, 4.0), f64::sqrt),
    row("rsqrt", UnaryOp::Rsqrt, |x, y, g| g * y / x * -0.5, (0.3, 4.0), |x| 1.0 / x.sqrt()),
    row("reciprocal", UnaryOp::Reciprocal, |_, y, g| -(g * y * y), (0.3, 4.0), |x| 1.0 / x),
    row("sin", UnaryOp::Sin, |x, _, g| g * x.cos(), (-3.0, 3.0), f64::sin),
    row("cos", UnaryOp::Cos, |x, _, g| -(g * x.sin()), (-3.0, 3.0), f64::cos),
    row("tan", UnaryOp::Tan, |_, y, g| g * (y * y + 1.0), (-1.0, 1.0), f64::tan),
    row("asin", UnaryOp::Asin, |x, _, g| g * (1.0 - x * x).rsqrt(), (-0.8, 0.8), f64::asin),
    row("acos", UnaryOp::Acos, |x, _, g| -(g * (1.0 - x * x).rsqrt()), (-0.8, 0.8), f64::acos),
    row("atan", UnaryOp::Atan, |x, _, g| g / (x * x + 1.0), (-3.0, 3.0), f64::atan),
    row("sinh", UnaryOp::Sinh, |x, _, g| g * x.cosh(), (-2.0, 2.0), f64::sinh),
    row("cosh", UnaryOp::Cosh, |x, _, g| g * x.sinh(), (-2.0, 2.0), f64::cosh),
    row("tanh", UnaryOp::Tanh, |_, y, g| g * (1.0 - y * y), (-2.0, 2.0), f64::tanh),
    row("asinh", UnaryOp::Asinh, |x, _, g| g * (x * x + 1.0).rsqrt(), (-3.0, 3.0), f64::asinh),
    row("acosh", UnaryOp::Acosh, |x, _, g| g * (x * x - 1.0).rsqrt(), (1.3, 4.0), f64::acosh),
    row("atanh", UnaryOp::Atanh, |x, _, g| g / (1.0 - x * x), (-0.8, 0.8), f64::atanh),
    row("erf", UnaryOp::Erf, erf_gradient, (-2.0, 2.0), erf_reference),
    row("sigmoid", UnaryOp::Sigmoid, |_, y, g| g * y * (1.0 - y), (-3.0, 3.0), |x| 1.0 / (1.0 + (-x).exp())),
    row("not", UnaryOp::Not, flat, (0.0, 1.0), |x| 1.0 - x),
    row("is_nan", UnaryOp::IsNan, flat, (0.0, 1.0), |_| 0.0),
];

/// `2/√π · e^(−x²)`.
fn erf_gradient(x: &Tensor, _: &Tensor, g: &Tensor) -> Tensor {
    g * (-(x * x)).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

/// The Maclaurin series, exact to rounding for the small arguments the tests use.
pub(crate) fn erf_reference(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

impl Operation for Unary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let dtype = inputs[0].dtype;
        let keeps = matches!(self.op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign) && dtype != DType::Bool;
        let result = match self.op {
            UnaryOp::Not if dtype == DType::Bool => DType::Bool,
            UnaryOp::Not => return Err(format!("takes bool, not {dtype}; compare first, as in x.not_equal(0.0)")),
            UnaryOp::IsNan if dtype.is_float() => DType::Bool,
            _ if dtype.is_float() || keeps => dtype,
            _ => return Err(format!("takes a floating dtype, not {dtype}; convert with .to(DType::F32)")),
        };
        Ok(vec![Meta::new(inputs[0].shape, result)])
    }

    fn kind(&self) -> Kind {
        Kind::Unary(self.op)
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        Ok(vec![Some((self.gradient)(&step.inputs[0], &step.outputs[0], &step.gradient(0)))])
    }
}

/// The name of the operation `op` stands for.
pub(crate) fn name(op: UnaryOp) -> &'static str {
    TABLE[op as usize].name
}

/// The rows of the operations table that stand for this file.
pub(crate) fn rows() -> Vec<Row> {
    TABLE.iter().map(|unary| Row { name: unary.name, cases: cases(unary) }).collect()
}

fn cases(unary: &'static Unary) -> Vec<Case> {
    let run = move |x: &[Tensor]| Tensor::record_source(Source::Table(unary), &[&x[0]]);
    let mut cases = Vec::new();
    for shape in [&[3usize, 5][..], &[], &[2, 0, 3], &[1, 17, 1]] {
        let mut case = Case::new(unary.name, &[shape], run).domain(unary.domain.0, unary.domain.1);
        if unary.op == UnaryOp::Not {
            case = case.dtype(DType::Bool);
        }
        case.smooth = !matches!(unary.op, UnaryOp::Not | UnaryOp::IsNan);
        let reference = unary.reference;
        cases.push(case.reference(move |x| x[0].iter().map(|&v| reference(v)).collect()));
    }
    cases
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Tensor {
            $($(#[$doc])*
            #[track_caller]
            pub fn $name(&self) -> Tensor {
                Tensor::record_source(Source::Table(&TABLE[UnaryOp::$op as usize]), &[self])
            })*
        }
    };
}

methods! {
    /// `−x`.
    neg Neg;
    /// `|x|`. The gradient at 0 is 0.
    abs Abs;
    /// −1, 0 or 1. The gradient is 0.
    sign Sign;
    /// The next whole number at or below. The gradient is 0.
    floor Floor;
    /// The next whole number at or above. The gradient is 0.
    ceil Ceil;
    /// The nearest whole number, halves to even. The gradient is 0.
    round Round;
    /// `eˣ`.
    exp Exp;
    /// `eˣ − 1`, exact near 0.
    expm1 Expm1;
    /// Natural logarithm.
    ln Ln;
    /// `ln(1 + x)`, exact near 0.
    log1p Log1p;
    /// `√x`.
    sqrt Sqrt;
    /// `1/√x`.
    rsqrt Rsqrt;
    /// `1/x`.
    reciprocal Reciprocal;
    /// Sine of `x` in radians.
    sin Sin;
    /// Cosine of `x` in radians.
    cos Cos;
    /// Tangent of `x` in radians.
    tan Tan;
    /// Inverse sine.
    asin Asin;
    /// Inverse cosine.
    acos Acos;
    /// Inverse tangent.
    atan Atan;
    /// Hyperbolic sine.
    sinh Sinh;
    /// Hyperbolic cosine.
    cosh Cosh;
    /// Hyperbolic tangent.
    tanh Tanh;
    /// Inverse hyperbolic sine.
    asinh Asinh;
    /// Inverse hyperbolic cosine, for `x ≥ 1`.
    acosh Acosh;
    /// Inverse hyperbolic tangent, for `|x| < 1`.
    atanh Atanh;
    /// The error function, `2/√π ∫₀ˣ e^(−t²) dt`.
    erf Erf;
    /// The logistic function, `1/(1+e⁻ˣ)`.
    sigmoid Sigmoid;
    /// The opposite truth value. Takes bool.
    logical_not Not;
    /// Whether each element is NaN.
    is_nan IsNan;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_their_operation_says() {
        for (i, unary) in TABLE.iter().enumerate() {
            assert_eq!(unary.op as usize, i, "{}", unary.name);
        }
    }
}
