//! Functions of two values an element: a table row each, the Rust operators, and broadcasting.

use crate::node::Source;
use crate::operation::{Backward, Kind, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::tile::BinaryOp;
use std::ops::{Add, Div, Mul, Neg, Rem, Sub};

/// A binary operation: everything about it.
#[derive(Debug)]
pub struct Binary {
    name: &'static str,
    op: BinaryOp,
    accepts: Accepts,
    /// The gradients by `a` and `b`, before broadcasting is undone; `None` where there is none to give.
    gradient: Option<fn(&Sides) -> [Tensor; 2]>,
    domain: (f64, f64),
    reference: fn(f64, f64) -> f64,
}

/// Which dtypes a row takes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Accepts {
    Numbers,
    Floats,
    Anything,
    Bools,
}

/// What a gradient row works with: inputs, output, the output's gradient.
struct Sides<'a> {
    a: &'a Tensor,
    b: &'a Tensor,
    y: &'a Tensor,
    g: &'a Tensor,
}

const fn row(
    name: &'static str,
    op: BinaryOp,
    accepts: Accepts,
    gradient: Option<fn(&Sides) -> [Tensor; 2]>,
    domain: (f64, f64),
    reference: fn(f64, f64) -> f64,
) -> Binary {
    Binary { name, op, accepts, gradient, domain, reference }
}

fn truth(value: bool) -> f64 {
    value as u8 as f64
}

/// Every binary operation, in the order of [`BinaryOp`].
static TABLE: [Binary; 18] = {
    use Accepts::*;
    const WIDE: (f64, f64) = (-2.0, 2.0);
    const POSITIVE: (f64, f64) = (0.3, 2.0);
    const BITS: (f64, f64) = (0.0, 1.0);
    [
        row("add", BinaryOp::Add, Numbers, Some(|s| [s.g.clone(), s.g.clone()]), WIDE, |a, b| a + b),
        row("sub", BinaryOp::Sub, Numbers, Some(|s| [s.g.clone(), -s.g]), WIDE, |a, b| a - b),
        row("mul", BinaryOp::Mul, Numbers, Some(|s| [s.g * s.b, s.g * s.a]), WIDE, |a, b| a * b),
        row("div", BinaryOp::Div, Numbers, Some(|s| [s.g / s.b, -(s.g * s.y / s.b)]), POSITIVE, |a, b| a / b),
        row("rem", BinaryOp::Rem, Numbers, Some(rem_gradient), (0.6, 0.9), |a, b| a - b * (a / b).floor()),
        row("pow", BinaryOp::Pow, Floats, Some(pow_gradient), POSITIVE, f64::powf),
        row("atan2", BinaryOp::Atan2, Floats, Some(atan2_gradient), POSITIVE, f64::atan2),
        row("minimum", BinaryOp::Min, Numbers, Some(extreme_gradient), WIDE, f64::min),
        row("maximum", BinaryOp::Max, Numbers, Some(extreme_gradient), WIDE, f64::max),
        row("equal", BinaryOp::Equal, Anything, None, WIDE, |a, b| truth(a == b)),
        row("not_equal", BinaryOp::NotEqual, Anything, None, WIDE, |a, b| truth(a != b)),
        row("less", BinaryOp::Less, Anything, None, WIDE, |a, b| truth(a < b)),
        row("less_equal", BinaryOp::LessEqual, Anything, None, WIDE, |a, b| truth(a <= b)),
        row("greater", BinaryOp::Greater, Anything, None, WIDE, |a, b| truth(a > b)),
        row("greater_equal", BinaryOp::GreaterEqual, Anything, None, WIDE, |a, b| truth(a >= b)),
        row("and", BinaryOp::And, Bools, None, BITS, |a, b| a * b),
        row("or", BinaryOp::Or, Bools, None, BITS, f64::max),
        row("xor", BinaryOp::Xor, Bools, None, BITS, |a, b| truth(a != b)),
    ]
};

/// `a mod b = a − b·⌊a/b⌋`.
fn rem_gradient(s: &Sides) -> [Tensor; 2] {
    [s.g.clone(), -(s.g * (s.a / s.b).floor())]
}

/// `∂/∂a = b·a^(b−1)`; `∂/∂b = y·ln a`, 0 where `a` is 0.
fn pow_gradient(s: &Sides) -> [Tensor; 2] {
    let by_a = s.g * s.b * s.a.pow(&(s.b - 1.0));
    let zero = s.a.equal(0.0);
    let safe = zero.select(&s.a.ones_like(), s.a).ln();
    [by_a, s.g * s.y * safe]
}

fn atan2_gradient(s: &Sides) -> [Tensor; 2] {
    let scale = s.g / (s.a * s.a + s.b * s.b);
    [&scale * s.b, -(&scale * s.a)]
}

/// The gradient goes to the side that was chosen, half to each where they are equal.
fn extreme_gradient(s: &Sides) -> [Tensor; 2] {
    let dtype = s.g.dtype();
    let tie = s.a.equal(s.b).to(dtype) * 0.5;
    let to_a = (s.a.equal(s.y).to(dtype) - &tie) * s.g;
    let to_b = (s.b.equal(s.y).to(dtype) - &tie) * s.g;
    [to_a, to_b]
}

impl Operation for Binary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (a, b) = (inputs[0], inputs[1]);
        let shape = broadcast(&[a, b])?;
        if a.dtype != b.dtype {
            return Err(format!("the dtypes differ, {} against {}; convert one with .to(…)", a.dtype, b.dtype));
        }
        let fits = match self.accepts {
            Accepts::Numbers => a.dtype != DType::Bool,
            Accepts::Floats => a.dtype.is_float(),
            Accepts::Bools => a.dtype == DType::Bool,
            Accepts::Anything => true,
        };
        if !fits {
            return Err(format!("does not take {}; convert with .to(…)", a.dtype));
        }
        Ok(vec![Meta::new(shape, if self.op.is_comparison() { DType::Bool } else { a.dtype })])
    }

    fn kind(&self) -> Kind {
        Kind::Binary(self.op)
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let Some(gradient) = self.gradient else { return Err("a truth value has no gradient".into()) };
        let g = step.gradient(0);
        let (a, b) = (&step.inputs[0], &step.inputs[1]);
        let [by_a, by_b] = gradient(&Sides { a, b, y: &step.outputs[0], g: &g });
        let fit = |needed: bool, gradient: Tensor, side: &Tensor| needed.then(|| gradient.sum_to(side.shape()));
        Ok(vec![fit(step.needed[0], by_a, a), fit(step.needed[1], by_b, b)])
    }
}

/// The shape several inputs broadcast to, or which axis stands against it.
pub(crate) fn broadcast(inputs: &[Meta]) -> Result<Shape, String> {
    let mut shape = inputs[0].shape;
    for input in &inputs[1..] {
        shape = shape.broadcast(&input.shape).map_err(|back| {
            let size = |shape: &Shape| shape[shape.rank() - back];
            let (a, b) = (size(&shape), size(&input.shape));
            format!("axis −{back} has {a} on one side and {b} on the other; sizes must be equal, or one of them 1")
        })?;
    }
    Ok(shape)
}

/// The name of the operation `op` stands for.
pub(crate) fn name(op: BinaryOp) -> &'static str {
    TABLE[op as usize].name
}

/// The rows of the operations table that stand for this file.
pub(crate) fn rows() -> Vec<Row> {
    TABLE.iter().map(|binary| Row { name: binary.name, cases: cases(binary) }).collect()
}

fn cases(binary: &'static Binary) -> Vec<Case> {
    let pairs: [[&[usize]; 2]; 6] =
        [[&[3, 4], &[3, 4]], [&[3, 1], &[4]], [&[], &[2, 3]], [&[0, 3], &[1]], [&[5, 1, 2], &[3, 1]], [&[1], &[7]]];
    let mut cases = Vec::new();
    for shapes in pairs {
        let run = move |x: &[Tensor]| Tensor::record_source(Source::Table(binary), &[&x[0], &x[1]]);
        let mut case = Case::new(binary.name, &shapes, run).domain(binary.domain.0, binary.domain.1);
        if binary.accepts == Accepts::Bools {
            case = case.dtype(DType::Bool);
        }
        case.smooth = binary.gradient.is_some();
        let (a_shape, b_shape) = (case.shapes[0], case.shapes[1]);
        let reference = binary.reference;
        cases.push(case.reference(move |x| {
            let shape = a_shape.broadcast(&b_shape).expect("the cases broadcast");
            (0..shape.count())
                .map(|i| reference(x[0][source_index(i, &shape, &a_shape)], x[1][source_index(i, &shape, &b_shape)]))
                .collect()
        }));
    }
    cases
}

/// Which element of an array of shape `from` stands at position `index` of its broadcast to `shape`.
pub(crate) fn source_index(mut index: usize, shape: &Shape, from: &Shape) -> usize {
    let (mut position, mut step) = (0, 1);
    for back in 1..=shape.rank() {
        let size = shape[shape.rank() - back];
        let coordinate = index % size;
        index /= size;
        if back <= from.rank() {
            let own = from[from.rank() - back];
            position += if own == 1 { 0 } else { coordinate * step };
            step *= own;
        }
    }
    position
}

/// The other side of a binary operation: a tensor, or a number that takes the tensor's dtype.
pub trait Operand {
    /// As a tensor that goes with one of dtype `dtype`.
    fn operand(&self, dtype: DType) -> Tensor;
}

impl Operand for Tensor {
    fn operand(&self, _dtype: DType) -> Tensor {
        self.clone()
    }
}

impl Operand for &Tensor {
    fn operand(&self, _dtype: DType) -> Tensor {
        (*self).clone()
    }
}

impl Operand for f64 {
    #[track_caller]
    fn operand(&self, dtype: DType) -> Tensor {
        assert!(
            dtype.is_float() || self.fract() == 0.0,
            "the number {self} does not fit a tensor of {dtype}; convert the tensor with .to(DType::F32) first"
        );
        Tensor::scalar(*self, dtype)
    }
}

impl Tensor {
    /// Adds axes and sums over broadcast ones until the shape is `shape`: the gradient of broadcasting.
    #[track_caller]
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Tensor {
        let (from, shape) = (self.shape(), shape.into());
        if from == shape {
            return self.clone();
        }
        let extra = from.rank() - shape.rank();
        let axes: Vec<i32> = (0..from.rank())
            .filter(|&axis| axis < extra || (shape[axis - extra] == 1 && from[axis] != 1))
            .map(|axis| axis as i32)
            .collect();
        self.sum_keep(axes).reshape(shape)
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Tensor {
            $($(#[$doc])*
            #[track_caller]
            pub fn $name(&self, other: impl Operand) -> Tensor {
                let other = other.operand(self.dtype());
                Tensor::record_source(Source::Table(&TABLE[BinaryOp::$op as usize]), &[self, &other])
            })*
        }
    };
}

methods! {
    /// `selfᵒᵗʰᵉʳ`, elementwise, broadcast. The base must not be negative unless the exponent is whole.
    pow Pow;
    /// The angle of the point (`other`, `self`) in radians, broadcast.
    atan2 Atan2;
    /// The smaller of two values, NaN if either is; the gradient goes to the smaller, half to each on a tie.
    minimum Min;
    /// The larger of two values, NaN if either is; the gradient goes to the larger, half to each on a tie.
    maximum Max;
    /// Whether the values are equal, as bool.
    equal Equal;
    /// Whether the values differ, as bool.
    not_equal NotEqual;
    /// `self < other`, as bool.
    less Less;
    /// `self ≤ other`, as bool.
    less_equal LessEqual;
    /// `self > other`, as bool.
    greater Greater;
    /// `self ≥ other`, as bool.
    greater_equal GreaterEqual;
    /// Both; of bool tensors.
    logical_and And;
    /// Either or both; of bool tensors.
    logical_or Or;
    /// Exactly one; of bool tensors.
    logical_xor Xor;
}

impl Tensor {
    /// `min(max(x, low), high)`; the gradient is 0 outside.
    #[track_caller]
    pub fn clamp(&self, low: f64, high: f64) -> Tensor {
        self.maximum(low).minimum(high)
    }

    /// `x²`.
    #[track_caller]
    pub fn square(&self) -> Tensor {
        self * self
    }

    /// `xⁿ` for a whole `n`, by repeated products: exact for negative `x`, differentiable everywhere for `n ≥ 0`.
    #[track_caller]
    pub fn powi(&self, n: i32) -> Tensor {
        match n {
            0 => self.ones_like(),
            1 => self.clone(),
            n if n < 0 => self.powi(-n).reciprocal(),
            n => {
                let half = self.powi(n / 2);
                let even = half.square();
                if n % 2 == 0 { even } else { even * self }
            }
        }
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident;)*) => {
        $(
        impl $trait<&Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                Tensor::record_source(Source::Table(&TABLE[BinaryOp::$op as usize]), &[self, other])
            }
        }
        impl $trait<Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                self.$method(&other)
            }
        }
        impl $trait<&Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                (&self).$method(other)
            }
        }
        impl $trait<Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                (&self).$method(&other)
            }
        }
        impl $trait<f64> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                self.$method(&other.operand(self.dtype()))
            }
        }
        impl $trait<f64> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                (&self).$method(other)
            }
        }
        impl $trait<&Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                (&self.operand(other.dtype())).$method(other)
            }
        }
        impl $trait<Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                self.$method(&other)
            }
        }
        )*
    };
}

operators! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
    Rem rem Rem;
}

impl Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        Tensor::neg(self)
    }
}

impl Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        Tensor::neg(&self)
    }
}

impl std::iter::Sum for Tensor {
    /// The sum of several tensors of one shape.
    ///
    /// # Panics
    /// If there is none: a sum of no tensors has no shape.
    fn sum<I: Iterator<Item = Tensor>>(tensors: I) -> Tensor {
        tensors.reduce(|a, b| a + b).expect("a sum of at least one tensor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_their_operation_says() {
        for (i, binary) in TABLE.iter().enumerate() {
            assert_eq!(binary.op as usize, i, "{}", binary.name);
        }
    }
}
