//! From operation and dtype to kernel. Where there is none, the program is refused when it is checked.

use super::kernels::{Kernels, binary, fast_binary, fast_select, fast_unary, limited, long_binary, select, unary};
use super::{BinaryOp, Scalar, UnaryOp};
use crate::{DType, math};

/// The kernels of `op` on `dtype`, if it has any.
pub(super) fn unary_kernels(op: UnaryOp, dtype: DType) -> Option<Kernels> {
    match dtype {
        DType::F32 => unary_f32(op),
        DType::F64 => unary_f64(op),
        DType::I32 => unary_int::<i32>(op, i32::wrapping_neg, i32::wrapping_abs, i32::signum),
        DType::I64 => unary_int::<i64>(op, i64::wrapping_neg, i64::wrapping_abs, i64::signum),
        DType::U8 => unary_int::<u8>(op, u8::wrapping_neg, |x| x, |x| x.min(1)),
        DType::Bool => (op == UnaryOp::Not).then(|| unary(|x: u8| (x == 0) as u8)),
    }
}

/// Roughly how many simple instructions an element of `op` costs; decides what is worth a second thread.
pub(super) fn unary_cost(op: UnaryOp) -> usize {
    use UnaryOp::*;
    match op {
        Neg | Abs | Sign | Floor | Ceil | Round | Not | IsNan => 1,
        Sqrt | Rsqrt | Reciprocal => 3,
        Exp | Expm1 | Ln | Log1p | Tanh | Erf | Sigmoid | Sin | Cos => 10,
        Tan | Asin | Acos | Atan | Sinh | Cosh | Asinh | Acosh | Atanh => 40,
    }
}

/// As [`unary_cost`].
pub(super) fn binary_cost(op: BinaryOp) -> usize {
    match op {
        BinaryOp::Div => 3,
        BinaryOp::Rem | BinaryOp::Pow | BinaryOp::Atan2 => 25,
        _ => 1,
    }
}

fn unary_int<T: Copy>(
    op: UnaryOp,
    neg: impl Fn(T) -> T + Copy,
    abs: impl Fn(T) -> T + Copy,
    sign: impl Fn(T) -> T + Copy,
) -> Option<Kernels> {
    match op {
        UnaryOp::Neg => Some(unary(neg)),
        UnaryOp::Abs => Some(unary(abs)),
        UnaryOp::Sign => Some(unary(sign)),
        // Integers are their own nearest integers.
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => Some(unary(|x: T| x)),
        _ => None,
    }
}

/// The sine of an angle beyond the polynomial's limit.
fn far_sin(x: f32) -> f32 {
    (x as f64).sin() as f32
}

/// As [`far_sin`].
fn far_cos(x: f32) -> f32 {
    (x as f64).cos() as f32
}

/// The fast form of a function that is written the same for every instruction set.
fn same<U: Copy>(f: impl Fn(f32) -> U + Copy) -> Kernels {
    fast_unary(f, f)
}

fn unary_f32(op: UnaryOp) -> Option<Kernels> {
    use UnaryOp::*;
    Some(match op {
        Neg => same(|x: f32| -x),
        Abs => same(f32::abs),
        Sign => same(|x: f32| {
            if x > 0.0 {
                1.0f32
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }),
        Floor => same(f32::floor),
        Ceil => same(f32::ceil),
        Round => same(f32::round_ties_even),
        Exp => fast_unary(math::exp::<true>, math::exp::<false>),
        Expm1 => fast_unary(math::expm1::<true>, math::expm1::<false>),
        Ln => fast_unary(math::ln::<true>, math::ln::<false>),
        Log1p => fast_unary(math::log1p::<true>, math::log1p::<false>),
        Sqrt => same(f32::sqrt),
        Rsqrt => same(|x: f32| 1.0 / x.sqrt()),
        Reciprocal => same(|x: f32| 1.0 / x),
        Sin => limited(math::sin::<true>, math::sin::<false>, far_sin),
        Cos => limited(math::cos::<true>, math::cos::<false>, far_cos),
        // The rarer functions go through f64, where the standard library rounds them well.
        Tan => unary(|x: f32| (x as f64).tan() as f32),
        Asin => unary(|x: f32| (x as f64).asin() as f32),
        Acos => unary(|x: f32| (x as f64).acos() as f32),
        Atan => unary(|x: f32| (x as f64).atan() as f32),
        Sinh => unary(|x: f32| (x as f64).sinh() as f32),
        Cosh => unary(|x: f32| (x as f64).cosh() as f32),
        Tanh => fast_unary(math::tanh::<true>, math::tanh::<false>),
        Asinh => unary(|x: f32| (x as f64).asinh() as f32),
        Acosh => unary(|x: f32| (x as f64).acosh() as f32),
        Atanh => unary(|x: f32| (x as f64).atanh() as f32),
        Erf => fast_unary(math::erf::<true>, math::erf::<false>),
        Sigmoid => fast_unary(math::sigmoid::<true>, math::sigmoid::<false>),
        IsNan => same(|x: f32| x.is_nan() as u8),
        Not => return None,
    })
}

fn unary_f64(op: UnaryOp) -> Option<Kernels> {
    use UnaryOp::*;
    Some(match op {
        Neg => unary(|x: f64| -x),
        Abs => unary(f64::abs),
        Sign => unary(|x: f64| {
            if x > 0.0 {
                1.0f64
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }),
        Floor => unary(f64::floor),
        Ceil => unary(f64::ceil),
        Round => unary(f64::round_ties_even),
        Exp => unary(f64::exp),
        Expm1 => unary(f64::exp_m1),
        Ln => unary(f64::ln),
        Log1p => unary(f64::ln_1p),
        Sqrt => unary(f64::sqrt),
        Rsqrt => unary(|x: f64| 1.0 / x.sqrt()),
        Reciprocal => unary(|x: f64| 1.0 / x),
        Sin => unary(f64::sin),
        Cos => unary(f64::cos),
        Tan => unary(f64::tan),
        Asin => unary(f64::asin),
        Acos => unary(f64::acos),
        Atan => unary(f64::atan),
        Sinh => unary(f64::sinh),
        Cosh => unary(f64::cosh),
        Tanh => unary(f64::tanh),
        Asinh => unary(f64::asinh),
        Acosh => unary(f64::acosh),
        Atanh => unary(f64::atanh),
        Erf => unary(math::erf_f64),
        Sigmoid => unary(math::sigmoid_f64),
        IsNan => unary(|x: f64| x.is_nan() as u8),
        Not => return None,
    })
}

/// The kernels of `op` on arguments of `dtype`, if it has any.
pub(super) fn binary_kernels(op: BinaryOp, dtype: DType) -> Option<Kernels> {
    use BinaryOp::*;
    if op.is_comparison() {
        return Some(match dtype {
            DType::F32 => comparison_f32(op),
            DType::F64 => comparison::<f64>(op),
            DType::I32 => comparison::<i32>(op),
            DType::I64 => comparison::<i64>(op),
            DType::U8 | DType::Bool => comparison::<u8>(op),
        });
    }
    match dtype {
        DType::F32 => match op {
            Rem => Some(binary(|a: f32, b: f32| remainder(a as f64, b as f64) as f32)),
            Pow => Some(long_binary(math::pow::<true>, math::pow::<false>)),
            Atan2 => Some(binary(|a: f32, b: f32| (a as f64).atan2(b as f64) as f32)),
            Add => Some(fast_binary(|a: f32, b: f32| a + b)),
            Sub => Some(fast_binary(|a: f32, b: f32| a - b)),
            Mul => Some(fast_binary(|a: f32, b: f32| a * b)),
            Div => Some(fast_binary(|a: f32, b: f32| a / b)),
            Min => Some(fast_binary(minimum::<f32>)),
            Max => Some(fast_binary(maximum::<f32>)),
            _ => None,
        },
        DType::F64 => match op {
            Rem => Some(binary(remainder)),
            Pow => Some(binary(f64::powf)),
            Atan2 => Some(binary(f64::atan2)),
            Add => Some(binary(|a: f64, b: f64| a + b)),
            Sub => Some(binary(|a: f64, b: f64| a - b)),
            Mul => Some(binary(|a: f64, b: f64| a * b)),
            Div => Some(binary(|a: f64, b: f64| a / b)),
            Min | Max => extremum::<f64>(op),
            _ => None,
        },
        DType::I32 => match op {
            Add => Some(binary(i32::wrapping_add)),
            Sub => Some(binary(i32::wrapping_sub)),
            Mul => Some(binary(i32::wrapping_mul)),
            Div => Some(binary(|a: i32, b: i32| if b == 0 { 0 } else { a.wrapping_div(b) })),
            Rem => Some(binary(|a: i32, b: i32| int_remainder(a as i64, b as i64) as i32)),
            Pow => Some(binary(|a: i32, b: i32| int_power(a as i64, b as i64) as i32)),
            Min | Max => extremum::<i32>(op),
            _ => None,
        },
        DType::I64 => match op {
            Add => Some(binary(i64::wrapping_add)),
            Sub => Some(binary(i64::wrapping_sub)),
            Mul => Some(binary(i64::wrapping_mul)),
            Div => Some(binary(|a: i64, b: i64| if b == 0 { 0 } else { a.wrapping_div(b) })),
            Rem => Some(binary(int_remainder)),
            Pow => Some(binary(int_power)),
            Min | Max => extremum::<i64>(op),
            _ => None,
        },
        DType::U8 => match op {
            Add => Some(binary(u8::wrapping_add)),
            Sub => Some(binary(u8::wrapping_sub)),
            Mul => Some(binary(u8::wrapping_mul)),
            Div => Some(binary(|a: u8, b: u8| a.checked_div(b).unwrap_or(0))),
            Rem => Some(binary(|a: u8, b: u8| a.checked_rem(b).unwrap_or(0))),
            Pow => Some(binary(|a: u8, b: u8| int_power(a as i64, b as i64) as u8)),
            Min | Max => extremum::<u8>(op),
            _ => None,
        },
        DType::Bool => match op {
            And => Some(binary(|a: u8, b: u8| a & b)),
            Or => Some(binary(|a: u8, b: u8| a | b)),
            Xor => Some(binary(|a: u8, b: u8| a ^ b)),
            Min | Max => extremum::<u8>(op),
            _ => None,
        },
    }
}

fn comparison<T: Copy + PartialOrd>(op: BinaryOp) -> Kernels {
    match op {
        BinaryOp::Equal => binary(|a: T, b: T| (a == b) as u8),
        BinaryOp::NotEqual => binary(|a: T, b: T| (a != b) as u8),
        BinaryOp::Less => binary(|a: T, b: T| (a < b) as u8),
        BinaryOp::LessEqual => binary(|a: T, b: T| (a <= b) as u8),
        BinaryOp::Greater => binary(|a: T, b: T| (a > b) as u8),
        _ => binary(|a: T, b: T| (a >= b) as u8),
    }
}

/// The fast forms.
fn comparison_f32(op: BinaryOp) -> Kernels {
    match op {
        BinaryOp::Equal => fast_binary(|a: f32, b: f32| (a == b) as u8),
        BinaryOp::NotEqual => fast_binary(|a: f32, b: f32| (a != b) as u8),
        BinaryOp::Less => fast_binary(|a: f32, b: f32| (a < b) as u8),
        BinaryOp::LessEqual => fast_binary(|a: f32, b: f32| (a <= b) as u8),
        BinaryOp::Greater => fast_binary(|a: f32, b: f32| (a > b) as u8),
        _ => fast_binary(|a: f32, b: f32| (a >= b) as u8),
    }
}

fn extremum<T: Copy + PartialOrd>(op: BinaryOp) -> Option<Kernels> {
    Some(if op == BinaryOp::Min { binary(minimum::<T>) } else { binary(maximum::<T>) })
}

/// The smaller; NaN if either is NaN.
#[inline(always)]
#[allow(clippy::eq_op)] // how a NaN is told in any type
pub(super) fn minimum<T: Copy + PartialOrd>(a: T, b: T) -> T {
    if a < b || a != a { a } else { b }
}

/// The larger; NaN if either is NaN.
#[inline(always)]
#[allow(clippy::eq_op)] // how a NaN is told in any type
pub(super) fn maximum<T: Copy + PartialOrd>(a: T, b: T) -> T {
    if a > b || a != a { a } else { b }
}

/// `a − b·⌊a/b⌋`, exactly: the result has the sign of `b`.
pub(super) fn remainder(a: f64, b: f64) -> f64 {
    let r = a % b;
    if r == 0.0 {
        r.copysign(b)
    } else if (r < 0.0) != (b < 0.0) {
        r + b
    } else {
        r
    }
}

/// As [`remainder`]; 0 where `b` is 0.
pub(super) fn int_remainder(a: i64, b: i64) -> i64 {
    if b == 0 {
        return 0;
    }
    let r = a.wrapping_rem(b);
    if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
}

/// `aᵇ` modulo 2⁶⁴; negative powers are rounded toward zero, 0 to a negative power is 0.
pub(super) fn int_power(a: i64, b: i64) -> i64 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 => 1 - 2 * (b & 1),
            _ => 0,
        };
    }
    let (mut base, mut power, mut result) = (a, b as u64, 1i64);
    while power > 0 {
        if power & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        power >>= 1;
    }
    result
}

/// The kernels of `Select` on `dtype`.
pub(super) fn select_kernels(dtype: DType) -> Kernels {
    match dtype.size() {
        1 => select::<u8>(),
        4 => fast_select::<u32>(),
        _ => select::<u64>(),
    }
}

/// The kernels that convert as `as` does; to bool `x != 0`.
pub(super) fn cast_kernels(from: DType, to: DType) -> Kernels {
    use DType::*;
    match (from, to) {
        (F32, F64) => unary(|x: f32| x as f64),
        (F32, I32) => unary(|x: f32| x as i32),
        (F32, I64) => unary(|x: f32| x as i64),
        (F32, U8) => unary(|x: f32| x as u8),
        (F32, Bool) => unary(|x: f32| (x != 0.0) as u8),
        (F64, F32) => unary(|x: f64| x as f32),
        (F64, I32) => unary(|x: f64| x as i32),
        (F64, I64) => unary(|x: f64| x as i64),
        (F64, U8) => unary(|x: f64| x as u8),
        (F64, Bool) => unary(|x: f64| (x != 0.0) as u8),
        (I32, F32) => unary(|x: i32| x as f32),
        (I32, F64) => unary(|x: i32| x as f64),
        (I32, I64) => unary(|x: i32| x as i64),
        (I32, U8) => unary(|x: i32| x as u8),
        (I32, Bool) => unary(|x: i32| (x != 0) as u8),
        (I64, F32) => unary(|x: i64| x as f32),
        (I64, F64) => unary(|x: i64| x as f64),
        (I64, I32) => unary(|x: i64| x as i32),
        (I64, U8) => unary(|x: i64| x as u8),
        (I64, Bool) => unary(|x: i64| (x != 0) as u8),
        (U8 | Bool, F32) => fast_unary(|x: u8| x as f32, |x: u8| x as f32),
        (U8 | Bool, F64) => unary(|x: u8| x as f64),
        (U8 | Bool, I32) => unary(|x: u8| x as i32),
        (U8 | Bool, I64) => unary(|x: u8| x as i64),
        (U8, Bool) => unary(|x: u8| (x != 0) as u8),
        (F32, F32) | (I32, I32) => unary(|x: u32| x),
        (F64, F64) | (I64, I64) => unary(|x: u64| x),
        (U8, U8) | (Bool, Bool | U8) => unary(|x: u8| x),
    }
}

impl Scalar {
    /// The bytes of this number as `dtype`, in the first places.
    pub(super) fn bytes(self, dtype: DType) -> [u8; 8] {
        let mut bytes = [0; 8];
        let mut put = |value: &[u8]| bytes[..value.len()].copy_from_slice(value);
        match (dtype, self) {
            (DType::F32, Scalar::Float(x)) => put(&(x as f32).to_ne_bytes()),
            (DType::F32, Scalar::Int(x)) => put(&(x as f32).to_ne_bytes()),
            (DType::F64, Scalar::Float(x)) => put(&x.to_ne_bytes()),
            (DType::F64, Scalar::Int(x)) => put(&(x as f64).to_ne_bytes()),
            (DType::I32, Scalar::Float(x)) => put(&(x as i32).to_ne_bytes()),
            (DType::I32, Scalar::Int(x)) => put(&(x as i32).to_ne_bytes()),
            (DType::I64, Scalar::Float(x)) => put(&(x as i64).to_ne_bytes()),
            (DType::I64, Scalar::Int(x)) => put(&x.to_ne_bytes()),
            (DType::U8, Scalar::Float(x)) => put(&[x as u8]),
            (DType::U8, Scalar::Int(x)) => put(&[x as u8]),
            (DType::Bool, Scalar::Float(x)) => put(&[(x != 0.0) as u8]),
            (DType::Bool, Scalar::Int(x)) => put(&[(x != 0) as u8]),
        }
        bytes
    }
}
