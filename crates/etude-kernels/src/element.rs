//! The element types of buffers, and the floating types kernels are generic over.

use crate::cpu::Dispatch;
use crate::instances::{self, Elements, Floats};
use std::fmt;

/// The type of a tensor's elements. `Bool` is stored as one byte, 0 or 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit float, the default.
    F32,
    /// 64-bit float; gradient checks run in it.
    F64,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer: class labels and indices.
    I64,
    /// 8-bit unsigned integer: pixels.
    U8,
    /// Truth value, one byte, 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype.
    pub const ALL: [DType; 6] = [DType::F32, DType::F64, DType::I32, DType::I64, DType::U8, DType::Bool];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::F64 | DType::I64 => 8,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether this is `F32` or `F64`.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64)
    }

    /// The short lower-case name, as in `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }
}

impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A storage type: what a [`crate::Buffer`] can be viewed as. `Bool` is viewed as `u8`.
pub trait Element: bytemuck::Pod + PartialOrd + Send + Sync + Default + fmt::Debug + fmt::Display + 'static {
    /// The dtype whose elements are stored as this type (`u8` says `U8`; it also stores `Bool`).
    const DTYPE: DType;
    /// Converts from `f64`, as Rust's `as` does.
    fn from_f64(value: f64) -> Self;
    /// Converts to `f64`, as Rust's `as` does.
    fn to_f64(self) -> f64;
    /// Converts from `i64`, as Rust's `as` does.
    fn from_i64(value: i64) -> Self;
    /// The value in 64 bits if the type is a whole number's.
    fn to_i64_exact(self) -> Option<i64>;
    /// This type's kernels.
    #[doc(hidden)]
    fn elements() -> &'static Elements<Self>;
}

/// The same slice under another name for its type.
///
/// # Panics
/// If `S` and `T` differ in size or alignment.
pub fn same<S: Element, T: Element>(values: &[S]) -> &[T] {
    bytemuck::cast_slice(values)
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
    fn to_f64(self) -> f64 {
        self as f64
    }
    fn from_i64(value: i64) -> f32 {
        value as f32
    }
    fn to_i64_exact(self) -> Option<i64> {
        None
    }
    #[inline(never)] // pulled into another crate it would bring the kernels along
    fn elements() -> &'static Elements<f32> {
        &instances::ELEMENTS_F32
    }
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
    fn from_f64(value: f64) -> f64 {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn from_i64(value: i64) -> f64 {
        value as f64
    }
    fn to_i64_exact(self) -> Option<i64> {
        None
    }
    #[inline(never)] // pulled into another crate it would bring the kernels along
    fn elements() -> &'static Elements<f64> {
        &instances::ELEMENTS_F64
    }
}

impl Element for i32 {
    const DTYPE: DType = DType::I32;
    fn from_f64(value: f64) -> i32 {
        value as i32
    }
    fn to_f64(self) -> f64 {
        self as f64
    }
    fn from_i64(value: i64) -> i32 {
        value as i32
    }
    fn to_i64_exact(self) -> Option<i64> {
        Some(self as i64)
    }
    #[inline(never)] // pulled into another crate it would bring the kernels along
    fn elements() -> &'static Elements<i32> {
        &instances::ELEMENTS_I32
    }
}

impl Element for i64 {
    const DTYPE: DType = DType::I64;
    fn from_f64(value: f64) -> i64 {
        value as i64
    }
    fn to_f64(self) -> f64 {
        self as f64
    }
    fn from_i64(value: i64) -> i64 {
        value
    }
    fn to_i64_exact(self) -> Option<i64> {
        Some(self)
    }
    #[inline(never)] // pulled into another crate it would bring the kernels along
    fn elements() -> &'static Elements<i64> {
        &instances::ELEMENTS_I64
    }
}

impl Element for u8 {
    const DTYPE: DType = DType::U8;
    fn from_f64(value: f64) -> u8 {
        value as u8
    }
    fn to_f64(self) -> f64 {
        self as f64
    }
    fn from_i64(value: i64) -> u8 {
        value as u8
    }
    fn to_i64_exact(self) -> Option<i64> {
        Some(self as i64)
    }
    #[inline(never)] // pulled into another crate it would bring the kernels along
    fn elements() -> &'static Elements<u8> {
        &instances::ELEMENTS_U8
    }
}

/// `f32` or `f64`: what numeric kernels are generic over.
pub trait Float:
    Element
    + Dispatch
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::iter::Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// `e^self`.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The larger of two values; NaN if either is NaN.
    fn maximum(self, other: Self) -> Self;
    /// Whether this is NaN.
    fn is_nan(self) -> bool;
    /// This type's kernels.
    #[doc(hidden)]
    fn floats() -> &'static Floats<Self>;
}

impl Float for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    fn exp(self) -> f32 {
        f32::exp(self)
    }
    fn ln(self) -> f32 {
        f32::ln(self)
    }
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    fn tanh(self) -> f32 {
        f32::tanh(self)
    }
    fn maximum(self, other: f32) -> f32 {
        if self.is_nan() || self > other { self } else { other }
    }
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
    #[inline(never)] // as above
    fn floats() -> &'static Floats<f32> {
        &instances::FLOATS_F32
    }
}

impl Float for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    fn tanh(self) -> f64 {
        f64::tanh(self)
    }
    fn maximum(self, other: f64) -> f64 {
        if self.is_nan() || self > other { self } else { other }
    }
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
    #[inline(never)] // as above
    fn floats() -> &'static Floats<f64> {
        &instances::FLOATS_F64
    }
}
