//! Tile programs: whole chains of elementwise operations, broadcasts included, in one pass over memory.
//!
//! A [`Program`] is a short list of instructions over registers. A register holds one tile of some hundreds of elements,
//! so that a chain's intermediate results stay in the first-level cache. Reductions are the tail of a program: a plain
//! sum is a load with a tail.

mod adam;
mod cost;
mod fused;
mod kernels;
mod layout;
mod plan;
mod prepare;
mod reduce;
mod run;
mod table;
mod tail;
#[cfg(test)]
mod tests;

pub use adam::Update;
pub use prepare::{MAX_REGISTERS, Prepared};
pub use tail::Tail;

use crate::{Buffer, DType};

/// The number of a tile register.
pub type Register = u16;

/// Elementwise functions of one argument. The result has the argument's dtype, but for `Not` and `IsNan` (bool).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum UnaryOp {
    Neg,
    Abs,
    /// −1, 0 or 1; NaN stays NaN.
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, halves to even.
    Round,
    Exp,
    Expm1,
    Ln,
    Log1p,
    Sqrt,
    /// `1/√x`.
    Rsqrt,
    Reciprocal,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    /// `1/(1+e⁻ˣ)`.
    Sigmoid,
    /// Bool to bool.
    Not,
    /// Float to bool.
    IsNan,
}

/// Elementwise functions of two arguments of one dtype. Comparisons give bool; `And`, `Or`, `Xor` take bool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// Integers: rounded toward zero; division by zero gives 0.
    Div,
    /// Remainder with the sign of the divisor, as Python's `%`; integer remainder by zero gives 0.
    Rem,
    Pow,
    Atan2,
    /// The smaller; NaN if either is NaN.
    Min,
    /// The larger; NaN if either is NaN.
    Max,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Xor,
}

impl BinaryOp {
    /// Whether the result is a truth value whatever the arguments' dtype.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }
}

/// How a tail folds a register over the reduced axes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum ReduceOp {
    Sum,
    Prod,
    /// NaN if any element is NaN. On bool: any.
    Max,
    /// NaN if any element is NaN. On bool: all.
    Min,
}

/// One instruction; each writes register `to` (or an output) for the whole tile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Instruction {
    /// Reads input `input` (strided; stride 0 broadcasts).
    Load {
        to: Register,
        input: usize,
    },
    /// Every element is scalar number `index`, converted to `dtype`.
    Scalar {
        to: Register,
        index: usize,
        dtype: DType,
    },
    Unary {
        op: UnaryOp,
        dtype: DType,
        to: Register,
        from: Register,
    },
    /// `dtype` is the arguments' dtype.
    Binary {
        op: BinaryOp,
        dtype: DType,
        to: Register,
        a: Register,
        b: Register,
    },
    /// `condition ? a : b`; `dtype` is that of `a` and `b`.
    Select {
        dtype: DType,
        to: Register,
        condition: Register,
        a: Register,
        b: Register,
    },
    /// Converts as Rust's `as` does; to bool: `x != 0`.
    Cast {
        from_dtype: DType,
        to_dtype: DType,
        to: Register,
        from: Register,
    },
    /// Writes the tile to output `output`, at the same position.
    Store {
        output: usize,
        from: Register,
    },
    /// Folds the register over the reduced axes into output `output`.
    Reduce {
        op: ReduceOp,
        dtype: DType,
        output: usize,
        from: Register,
    },
}

/// A number that a plan passes to its kernels at each run; never part of the plan itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar {
    /// A floating value.
    Float(f64),
    /// An integer value, exact in 64 bits.
    Int(i64),
}

/// Where an input's elements come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A buffer nothing in this call writes.
    Buffer(&'a Buffer),
    /// In place: output number `.0`, whose strides and positions equal this input's; read before it is overwritten.
    Output(usize),
}

/// One strided input over the iteration shape.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The storage.
    pub source: Source<'a>,
    /// Element offset of the first element.
    pub offset: usize,
    /// One stride, in elements, for each axis of the iteration shape; 0 broadcasts, negative runs backwards.
    pub strides: &'a [isize],
}

/// A checked list of instructions with its inputs' and outputs' dtypes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Program {
    /// What is done to each tile, in order.
    pub instructions: Vec<Instruction>,
    /// The dtype of each input.
    pub inputs: Vec<DType>,
    /// The dtype of each output.
    pub outputs: Vec<DType>,
}
