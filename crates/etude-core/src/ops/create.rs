//! Tensors out of nothing: constants, ranges, grids, and random numbers.

use crate::operation::{Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::random::next_stream;
use crate::{DType, Shape, Tensor};
use etude_kernels::{Element, Float};
use std::hash::{Hash, Hasher};

/// `start + i·step`.
#[derive(Debug)]
struct Range {
    count: usize,
    dtype: DType,
}

impl Operation for Range {
    fn name(&self) -> &'static str {
        "arange"
    }

    fn outputs(&self, _inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![Meta::new(Shape::from(self.count), self.dtype)])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        let (start, step) = (call.float(0), call.float(1));
        match self.dtype {
            DType::F32 => fill::<f32>(call, start, step),
            DType::F64 => fill::<f64>(call, start, step),
            DType::I32 => fill::<i32>(call, start, step),
            DType::I64 => fill::<i64>(call, start, step),
            DType::U8 | DType::Bool => fill::<u8>(call, start, step),
        }
        Ok(())
    }
}

fn fill<T: Element>(call: &mut Call, start: f64, step: f64) {
    call.output::<T>(0).iter_mut().enumerate().for_each(|(i, out)| *out = T::from_f64(start + i as f64 * step));
}

/// Which numbers are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Law {
    Uniform,
    Normal,
    Permutation,
}

/// Random numbers, a function of seed and stream number alone; both are scalar inputs, so that every draw shares a plan.
#[derive(Debug)]
struct Random {
    law: Law,
    shape: Shape,
    dtype: DType,
}

impl Operation for Random {
    fn name(&self) -> &'static str {
        match self.law {
            Law::Uniform => "uniform",
            Law::Normal => "normal",
            Law::Permutation => "permutation",
        }
    }

    fn outputs(&self, _inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![Meta::new(self.shape, self.dtype)])
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        self.law.hash(&mut state);
    }

    fn draws(&self) -> bool {
        true
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        let key = etude_kernels::random::Key { seed: call.int(0) as u64, stream: call.int(1) as u64 };
        match (self.law, self.dtype) {
            (Law::Permutation, _) => etude_kernels::random::permutation(key, call.output(0)),
            (law, DType::F32) => draw::<f32>(law, key, call.output(0)),
            (law, _) => draw::<f64>(law, key, call.output(0)),
        }
        Ok(())
    }
}

fn draw<T: Float>(law: Law, key: etude_kernels::random::Key, out: &mut [T]) {
    match law {
        Law::Normal => etude_kernels::random::normal(key, out),
        _ => etude_kernels::random::uniform(key, out),
    }
}

#[track_caller]
fn random(law: Law, shape: Shape, dtype: DType) -> Tensor {
    let (seed, stream) = next_stream();
    let inputs = [Tensor::scalar_int(seed as i64), Tensor::scalar_int(stream as i64)];
    Tensor::record(Random { law, shape, dtype }, &[&inputs[0], &inputs[1]])
}

/// What [`tensor`] takes: numbers, and arrays, slices and vectors of them to any depth.
pub trait IntoTensor {
    /// The dtype of the tensor made.
    const DTYPE: DType;
    /// Appends the sizes below this level; returns false if rows differ in length.
    fn sizes(&self, sizes: &mut Vec<usize>);
    /// Appends the numbers in row-major order.
    fn numbers(&self, numbers: &mut Vec<f64>, level: usize, sizes: &[usize]);
}

macro_rules! numbers {
    ($($type:ty => $dtype:ident;)*) => {$(
        impl IntoTensor for $type {
            const DTYPE: DType = DType::$dtype;
            fn sizes(&self, _sizes: &mut Vec<usize>) {}
            #[track_caller]
            fn numbers(&self, numbers: &mut Vec<f64>, _level: usize, _sizes: &[usize]) {
                numbers.push(f64::from(*self));
            }
        }
    )*};
}

numbers! {
    f32 => F32;
    f64 => F32;
    i32 => I64;
    u8 => U8;
    bool => Bool;
}

impl IntoTensor for i64 {
    const DTYPE: DType = DType::I64;
    fn sizes(&self, _sizes: &mut Vec<usize>) {}
    /// Exact up to 2⁵³, far beyond any label; [`Tensor::from_slice`] is exact throughout.
    fn numbers(&self, numbers: &mut Vec<f64>, _level: usize, _sizes: &[usize]) {
        numbers.push(*self as f64);
    }
}

impl<T: IntoTensor> IntoTensor for [T] {
    const DTYPE: DType = T::DTYPE;
    fn sizes(&self, sizes: &mut Vec<usize>) {
        sizes.push(self.len());
        if let Some(first) = self.first() {
            first.sizes(sizes);
        }
    }
    #[track_caller]
    fn numbers(&self, numbers: &mut Vec<f64>, level: usize, sizes: &[usize]) {
        let (given, wanted) = (self.len(), sizes[level]);
        assert!(given == wanted, "tensor: a row at level {level} has {given} elements, the first one has {wanted}");
        self.iter().for_each(|part| part.numbers(numbers, level + 1, sizes));
    }
}

impl<T: IntoTensor, const N: usize> IntoTensor for [T; N] {
    const DTYPE: DType = T::DTYPE;
    fn sizes(&self, sizes: &mut Vec<usize>) {
        self[..].sizes(sizes);
    }
    #[track_caller]
    fn numbers(&self, numbers: &mut Vec<f64>, level: usize, sizes: &[usize]) {
        self[..].numbers(numbers, level, sizes);
    }
}

impl<T: IntoTensor> IntoTensor for Vec<T> {
    const DTYPE: DType = T::DTYPE;
    fn sizes(&self, sizes: &mut Vec<usize>) {
        self[..].sizes(sizes);
    }
    #[track_caller]
    fn numbers(&self, numbers: &mut Vec<f64>, level: usize, sizes: &[usize]) {
        self[..].numbers(numbers, level, sizes);
    }
}

impl<T: IntoTensor + ?Sized> IntoTensor for &T {
    const DTYPE: DType = T::DTYPE;
    fn sizes(&self, sizes: &mut Vec<usize>) {
        (**self).sizes(sizes);
    }
    #[track_caller]
    fn numbers(&self, numbers: &mut Vec<f64>, level: usize, sizes: &[usize]) {
        (**self).numbers(numbers, level, sizes);
    }
}

/// A tensor of the numbers written down: `tensor([[1.0, 2.0], [3.0, 4.0]])`. Floats make `f32` (the default dtype),
/// integers `i64`, truth values `bool`. [`Tensor::from_slice`] keeps the exact dtype of its values.
///
/// # Panics
/// If rows differ in length.
#[track_caller]
pub fn tensor<T: IntoTensor>(values: T) -> Tensor {
    let mut sizes = Vec::new();
    values.sizes(&mut sizes);
    let mut numbers = Vec::new();
    values.numbers(&mut numbers, 0, &sizes);
    let shape = Shape::new(&sizes);
    match T::DTYPE {
        DType::F32 => Tensor::from_slice(&convert::<f32>(&numbers), shape),
        DType::F64 => Tensor::from_slice(&numbers, shape),
        DType::I32 => Tensor::from_slice(&convert::<i32>(&numbers), shape),
        DType::I64 => Tensor::from_slice(&convert::<i64>(&numbers), shape),
        DType::U8 => Tensor::from_slice(&convert::<u8>(&numbers), shape),
        DType::Bool => Tensor::from_bools(&numbers.iter().map(|&v| v != 0.0).collect::<Vec<_>>(), shape),
    }
}

fn convert<T: Element>(numbers: &[f64]) -> Vec<T> {
    numbers.iter().map(|&value| T::from_f64(value)).collect()
}

/// `value` everywhere, `f32`. Takes no memory until something needs its elements.
#[track_caller]
pub fn full(shape: impl Into<Shape>, value: f64) -> Tensor {
    Tensor::scalar(value, DType::F32).expand(shape)
}

/// Zeros, `f32`.
#[track_caller]
pub fn zeros(shape: impl Into<Shape>) -> Tensor {
    full(shape, 0.0)
}

/// Ones, `f32`.
#[track_caller]
pub fn ones(shape: impl Into<Shape>) -> Tensor {
    full(shape, 1.0)
}

/// 0, 1, … `count − 1`, as `i64`.
#[track_caller]
pub fn arange(count: usize) -> Tensor {
    range(0.0, 1.0, count, DType::I64)
}

/// `start + i·step` for `count` values of `dtype`.
#[track_caller]
pub fn range(start: f64, step: f64, count: usize, dtype: DType) -> Tensor {
    let inputs = [Tensor::scalar(start, DType::F64), Tensor::scalar(step, DType::F64)];
    Tensor::record(Range { count, dtype }, &[&inputs[0], &inputs[1]])
}

/// `count` values from `start` to `end`, both included, evenly spaced, `f32`.
#[track_caller]
pub fn linspace(start: f64, end: f64, count: usize) -> Tensor {
    let step = if count > 1 { (end - start) / (count - 1) as f64 } else { 0.0 };
    range(start, step, count, DType::F32)
}

/// The `size` × `size` identity matrix, `f32`.
#[track_caller]
pub fn eye(size: usize) -> Tensor {
    arange(size).unsqueeze(1).equal(arange(size)).to(DType::F32)
}

/// Coordinate grids: for axes of lengths `n₁ … nₖ`, `k` tensors of shape `[n₁ … nₖ]`, of which the `i`-th holds axis
/// `i`'s values along axis `i` (NumPy's `indexing="ij"`).
#[track_caller]
pub fn meshgrid(axes: &[Tensor]) -> Vec<Tensor> {
    let shape: Shape = axes.iter().map(|axis| axis.count()).collect();
    let spread = |(i, axis): (usize, &Tensor)| {
        let line: Shape = (0..axes.len()).map(|j| if i == j { shape[i] } else { 1 }).collect();
        axis.reshape(line).expand(shape)
    };
    axes.iter().enumerate().map(spread).collect()
}

/// Uniform on [0, 1), `f32`, from the thread's generator ([`crate::random`]).
#[track_caller]
pub fn uniform(shape: impl Into<Shape>) -> Tensor {
    random(Law::Uniform, shape.into(), DType::F32)
}

/// Uniform on [0, 1) in `dtype`, which must be a float.
#[track_caller]
pub fn uniform_in(shape: impl Into<Shape>, dtype: DType) -> Tensor {
    assert!(dtype.is_float(), "uniform: {dtype} is not a floating dtype");
    random(Law::Uniform, shape.into(), dtype)
}

/// Standard normal, `f32`, from the thread's generator.
#[track_caller]
pub fn randn(shape: impl Into<Shape>) -> Tensor {
    random(Law::Normal, shape.into(), DType::F32)
}

/// Standard normal in `dtype`, which must be a float.
#[track_caller]
pub fn randn_in(shape: impl Into<Shape>, dtype: DType) -> Tensor {
    assert!(dtype.is_float(), "randn: {dtype} is not a floating dtype");
    random(Law::Normal, shape.into(), dtype)
}

/// Standard normal, cut at `±limit`, `f32`: drawn by inverting the distribution function, so no draw is thrown away.
#[track_caller]
pub fn truncated_normal(shape: impl Into<Shape>, limit: f64) -> Tensor {
    // erf(limit/√2) is the probability inside; x = √2·erf⁻¹(u) for u uniform on ±that.
    let inside = Tensor::scalar(limit / std::f64::consts::SQRT_2, DType::F64).erf().item();
    let u = (uniform_in(shape, DType::F64) * 2.0 - 1.0) * inside;
    (inverse_erf(&u) * std::f64::consts::SQRT_2).clamp(-limit, limit).to(DType::F32)
}

/// `erf⁻¹`, a starting formula (Winitzki, 2008) refined by three Newton steps.
fn inverse_erf(u: &Tensor) -> Tensor {
    let a = 0.147;
    let log = (1.0 - u * u).maximum(1e-300).ln();
    let middle = &log * 0.5 + 2.0 / (std::f64::consts::PI * a);
    let mut x = u.sign() * (((&middle * &middle) - &log * (1.0 / a)).sqrt() - middle).maximum(0.0).sqrt();
    for _ in 0..3 {
        x = &x - (x.erf() - u) * (&x * &x).exp() * (1.0 / std::f64::consts::FRAC_2_SQRT_PI);
    }
    x
}

/// True with probability `p` (a number or a tensor of them that broadcasts to `shape`), as bool.
#[track_caller]
pub fn bernoulli(shape: impl Into<Shape>, p: f64) -> Tensor {
    uniform(shape).less(p)
}

/// Draws a class from each row of unnormalised log-probabilities `[…, classes] → […]`, as `i64`: the class with the
/// largest logit after Gumbel noise is added (Gumbel, 1954), which is an exact draw.
#[track_caller]
pub fn categorical(logits: &Tensor) -> Tensor {
    let u = uniform_in(logits.shape(), DType::F64).maximum(1e-300);
    (logits.to(DType::F64) - (-u.ln()).ln()).argmax(-1)
}

/// The numbers 0 … `count − 1` in random order, as `i64`.
#[track_caller]
pub fn permutation(count: usize) -> Tensor {
    random(Law::Permutation, Shape::from(count), DType::I64)
}

impl Tensor {
    /// Zeros of this shape and dtype.
    #[track_caller]
    pub fn zeros_like(&self) -> Tensor {
        Tensor::scalar(0.0, self.dtype()).expand(self.shape())
    }

    /// Ones of this shape and dtype.
    #[track_caller]
    pub fn ones_like(&self) -> Tensor {
        Tensor::scalar(1.0, self.dtype()).expand(self.shape())
    }

    /// Whole numbers `[…]` as rows with a one in their place, `[…, classes]`, `f32`. A number outside makes a row of
    /// zeros.
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Tensor {
        self.to(DType::I64).unsqueeze(-1).equal(arange(classes)).to(DType::F32)
    }

    /// This matrix (the last two axes) with zeros above diagonal number `diagonal` (0 is the main one).
    #[track_caller]
    pub fn tril(&self, diagonal: i64) -> Tensor {
        let below = self.offsets_from_diagonal().less_equal(diagonal as f64);
        below.select(self, &Tensor::scalar(0.0, self.dtype()))
    }

    /// This matrix (the last two axes) with zeros below diagonal number `diagonal` (0 is the main one).
    #[track_caller]
    pub fn triu(&self, diagonal: i64) -> Tensor {
        let above = self.offsets_from_diagonal().greater_equal(diagonal as f64);
        above.select(self, &Tensor::scalar(0.0, self.dtype()))
    }

    /// Column number minus row number, `[rows, columns]`.
    #[track_caller]
    fn offsets_from_diagonal(&self) -> Tensor {
        arange(self.size(-1)) - arange(self.size(-2)).unsqueeze(1)
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let arange_cases = vec![
        Case::new("arange", &[], |_| arange(5)).discrete().reference(|_| vec![0.0, 1.0, 2.0, 3.0, 4.0]),
        Case::new("linspace", &[], |_| linspace(0.0, 1.0, 5)).discrete().reference(|_| vec![0.0, 0.25, 0.5, 0.75, 1.0]),
        Case::new("nothing", &[], |_| arange(0)).discrete().reference(|_| Vec::new()),
        Case::new("eye", &[], |_| eye(2)).discrete().reference(|_| vec![1.0, 0.0, 0.0, 1.0]),
        Case::new("one hot", &[], |_| arange(3).one_hot(2))
            .discrete()
            .reference(|_| vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
        Case::new("tril", &[&[3, 3]], |x| x[0].tril(0).square())
            .reference(|x| (0..9).map(|i| if i % 3 <= i / 3 { x[0][i] * x[0][i] } else { 0.0 }).collect()),
        Case::new("triu", &[&[2, 3]], |x| x[0].triu(1))
            .reference(|x| (0..6).map(|i| if i % 3 > i / 3 { x[0][i] } else { 0.0 }).collect()),
        Case::new("tril of a row", &[&[1, 3]], |x| x[0].tril(1).square()),
        Case::new("triu of nothing", &[&[0, 3]], |x| x[0].triu(0)),
    ];
    let drawn = |name: &'static str, run: fn() -> Tensor| Row {
        name,
        cases: vec![Case::new(name, &[], move |_| run()).discrete()],
    };
    vec![
        Row { name: "arange", cases: arange_cases },
        drawn("uniform", || uniform([3, 5])),
        drawn("normal", || randn([7])),
        drawn("permutation", || permutation(9)),
    ]
}
