//! Folds over axes: sum, product, extremes, and the statistics made of them.

use crate::operation::{Backward, Kind, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{Axes, DType, Shape, Tensor};
use etude_kernels::tile::ReduceOp;
use std::hash::{Hash, Hasher};

/// A fold over some axes, which stay with size 1.
#[derive(Debug)]
struct Reduce {
    op: ReduceOp,
    axes: Vec<usize>,
}

impl Operation for Reduce {
    fn name(&self) -> &'static str {
        match self.op {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
        }
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (self.op, &self.axes).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let Meta { mut shape, dtype } = inputs[0];
        if dtype == DType::Bool && matches!(self.op, ReduceOp::Sum | ReduceOp::Prod) {
            return Err("does not take bool; convert with .to(…), or use any and all".into());
        }
        for &axis in &self.axes {
            if shape[axis] == 0 && matches!(self.op, ReduceOp::Max | ReduceOp::Min) && dtype != DType::Bool {
                return Err(format!("axis {axis} is empty, and nothing has no extreme"));
            }
            shape[axis] = 1;
        }
        Ok(vec![Meta::new(shape, dtype)])
    }

    fn kind(&self) -> Kind {
        Kind::Reduce(self.op, self.axes.clone())
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (x, y, g) = (&step.inputs[0], &step.outputs[0], step.gradient(0));
        let axes: Vec<i32> = self.axes.iter().map(|&axis| axis as i32).collect();
        Ok(vec![Some(match self.op {
            ReduceOp::Sum => g.expand(x.shape()),
            // Shared evenly among all that are the extreme.
            ReduceOp::Max | ReduceOp::Min => {
                let chosen = x.equal(y).to(g.dtype());
                &chosen * (g / chosen.sum_keep(axes))
            }
            // Where one factor is 0, the others' product; where several are, 0.
            ReduceOp::Prod => {
                let zero = x.equal(0.0);
                let zeros = zero.to(g.dtype()).sum_keep(axes.clone());
                let others = zero.select(&x.ones_like(), x).prod_keep(axes);
                let none = Tensor::scalar(0.0, g.dtype());
                let at_zero = zeros.equal(1.0).select(&others, &none);
                let elsewhere = y / zero.select(&x.ones_like(), x);
                zero.select(&at_zero, &elsewhere) * g
            }
        })])
    }
}

impl Tensor {
    #[track_caller]
    fn reduce(&self, op: ReduceOp, axes: impl Into<Axes>, keep: bool) -> Tensor {
        let shape = self.shape();
        let name = Reduce { op, axes: Vec::new() }.name();
        let axes = shape.axes(&axes.into()).unwrap_or_else(|message| panic!("{name}: {message}"));
        let squeezed: Shape = (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
        // A fold over axes of size 1 is the thing itself.
        let result = if axes.iter().all(|&axis| shape[axis] == 1) {
            self.clone()
        } else {
            Tensor::record(Reduce { op, axes }, &[self])
        };
        if keep { result } else { result.reshape(squeezed) }
    }

    /// The sum over `axes` (`..` for all), which disappear.
    #[track_caller]
    pub fn sum(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Sum, axes, false)
    }

    /// The sum over `axes`, which stay with size 1.
    #[track_caller]
    pub fn sum_keep(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Sum, axes, true)
    }

    /// The product over `axes`, which disappear.
    #[track_caller]
    pub fn prod(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Prod, axes, false)
    }

    /// The product over `axes`, which stay with size 1.
    #[track_caller]
    pub fn prod_keep(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Prod, axes, true)
    }

    /// The largest element over `axes`, which disappear; NaN if any is. Equal largest ones share the gradient.
    #[track_caller]
    pub fn max(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Max, axes, false)
    }

    /// The largest element over `axes`, which stay with size 1.
    #[track_caller]
    pub fn max_keep(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Max, axes, true)
    }

    /// The smallest element over `axes`, which disappear; NaN if any is. Equal smallest ones share the gradient.
    #[track_caller]
    pub fn min(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Min, axes, false)
    }

    /// The smallest element over `axes`, which stay with size 1.
    #[track_caller]
    pub fn min_keep(&self, axes: impl Into<Axes>) -> Tensor {
        self.reduce(ReduceOp::Min, axes, true)
    }

    /// Whether any element over `axes` is true. Takes bool.
    #[track_caller]
    pub fn any(&self, axes: impl Into<Axes>) -> Tensor {
        assert!(self.dtype() == DType::Bool, "any: takes bool, not {}; compare first", self.dtype());
        self.max(axes)
    }

    /// Whether all elements over `axes` are true. Takes bool.
    #[track_caller]
    pub fn all(&self, axes: impl Into<Axes>) -> Tensor {
        assert!(self.dtype() == DType::Bool, "all: takes bool, not {}; compare first", self.dtype());
        self.min(axes)
    }

    /// How many elements a fold over `axes` takes in.
    #[track_caller]
    fn folded(&self, axes: &Axes) -> f64 {
        let shape = self.shape();
        let axes = shape.axes(axes).unwrap_or_else(|message| panic!("mean: {message}"));
        axes.iter().map(|&axis| shape[axis]).product::<usize>() as f64
    }

    /// The mean over `axes`, which disappear. NaN over nothing.
    #[track_caller]
    pub fn mean(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = axes.into();
        let count = self.folded(&axes);
        self.sum(axes) * (1.0 / count)
    }

    /// The mean over `axes`, which stay with size 1.
    #[track_caller]
    pub fn mean_keep(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = axes.into();
        let count = self.folded(&axes);
        self.sum_keep(axes) * (1.0 / count)
    }

    /// The variance over `axes`, which stay with size 1: `Σ(x−x̄)² / (n−correction)`. Correction 1 gives the unbiased
    /// estimate, 0 the variance of exactly these numbers.
    #[track_caller]
    pub fn var_keep(&self, axes: impl Into<Axes>, correction: f64) -> Tensor {
        let axes = axes.into();
        let count = self.folded(&axes);
        let centred = self - self.mean_keep(axes.clone());
        centred.square().sum_keep(axes) * (1.0 / (count - correction).max(0.0))
    }

    /// The variance over `axes`, which disappear; see [`Tensor::var_keep`].
    #[track_caller]
    pub fn var(&self, axes: impl Into<Axes>, correction: f64) -> Tensor {
        let axes = axes.into();
        let kept = self.var_keep(axes.clone(), correction);
        kept.drop_axes(&axes)
    }

    /// The standard deviation over `axes`, which disappear: the root of [`Tensor::var`].
    #[track_caller]
    pub fn std(&self, axes: impl Into<Axes>, correction: f64) -> Tensor {
        self.var(axes, correction).sqrt()
    }

    /// `ln Σ eˣ` over `axes`, which disappear, without overflow.
    #[track_caller]
    pub fn logsumexp(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = axes.into();
        self.logsumexp_keep(axes.clone()).drop_axes(&axes)
    }

    /// `ln Σ eˣ` over `axes`, which stay with size 1, without overflow.
    #[track_caller]
    pub fn logsumexp_keep(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = axes.into();
        let largest = self.max_keep(axes.clone()).detach();
        // Where everything is −∞ (or one is +∞), the largest must not be taken away from itself.
        let finite = largest.abs().less(f64::INFINITY);
        let shift = finite.select(&largest, &Tensor::scalar(0.0, self.dtype()));
        (self - &shift).exp().sum_keep(axes).ln() + shift
    }

    /// The Euclidean norm over `axes`, which disappear: `√Σx²`. The gradient at 0 is NaN, as the norm has a kink there.
    #[track_caller]
    pub fn norm(&self, axes: impl Into<Axes>) -> Tensor {
        self.square().sum(axes).sqrt()
    }

    /// The `p`-norm over `axes`, which disappear: `(Σ|x|ᵖ)^(1/p)`; `p` may be infinite.
    #[track_caller]
    pub fn norm_p(&self, p: f64, axes: impl Into<Axes>) -> Tensor {
        match p {
            1.0 => self.abs().sum(axes),
            2.0 => self.norm(axes),
            f64::INFINITY => self.abs().max(axes),
            p => self.abs().pow(p).sum(axes).pow(1.0 / p),
        }
    }

    /// Without the size-1 axes a fold over `axes` kept.
    #[track_caller]
    fn drop_axes(&self, axes: &Axes) -> Tensor {
        let shape = self.shape();
        let axes = shape.axes(axes).unwrap_or_else(|message| panic!("{message}"));
        self.reshape((0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect::<Shape>())
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |name: &'static str, op: ReduceOp, fold: fn(f64, f64) -> f64, start: f64| {
        let mut cases = Vec::new();
        for (shape, axes) in [
            (&[2usize, 3][..], vec![1]),
            (&[2, 3], vec![0]),
            (&[4, 5], vec![0, 1]),
            (&[2, 3, 4], vec![1]),
            (&[2, 3, 4, 3], vec![0, 2, 3]),
            (&[3, 1, 2], vec![1]),
            (&[1, 257], vec![1]),
            (&[0, 3], vec![1]),
        ] {
            let run_axes = axes.clone();
            let run = move |x: &[Tensor]| x[0].reduce(op, run_axes.clone(), false);
            let case = Case::new(format!("{name} {shape:?} over {axes:?}"), &[shape], run).domain(0.5, 1.5);
            let (shape, axes) = (Shape::new(shape), axes.iter().map(|&axis| axis as usize).collect::<Vec<_>>());
            cases.push(case.reference(move |x| reference(&x[0], &shape, &axes, fold, start)));
        }
        if matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
            cases.push(Case::new(format!("{name} over nothing"), &[&[3, 0]], move |x| x[0].reduce(op, -1, false)));
        }
        cases.push(Case::new(format!("{name} of a transpose"), &[&[3, 4]], move |x| x[0].t().reduce(op, 0, false)));
        Row { name, cases }
    };
    let mut rows = vec![
        row("sum", ReduceOp::Sum, |a, b| a + b, 0.0),
        row("prod", ReduceOp::Prod, |a, b| a * b, 1.0),
        row("max", ReduceOp::Max, f64::max, f64::NEG_INFINITY),
        row("min", ReduceOp::Min, f64::min, f64::INFINITY),
    ];
    rows[0].cases.extend([
        Case::new("mean", &[&[3, 4]], |x| x[0].mean(0)),
        Case::new("var", &[&[3, 4]], |x| x[0].var(-1, 1.0)).reference(|x| {
            let row = |i: usize| &x[0][4 * i..4 * i + 4];
            let mean = |i: usize| row(i).iter().sum::<f64>() / 4.0;
            (0..3).map(|i| row(i).iter().map(|v| (v - mean(i)).powi(2)).sum::<f64>() / 3.0).collect()
        }),
        Case::new("std", &[&[3, 4]], |x| x[0].std([0, 1], 0.0)),
        Case::new("logsumexp", &[&[3, 4]], |x| x[0].logsumexp(1))
            .reference(|x| (0..3).map(|i| x[0][4 * i..4 * i + 4].iter().map(|v| v.exp()).sum::<f64>().ln()).collect()),
        Case::new("norm", &[&[3, 4]], |x| x[0].norm(0)),
        Case::new("norm of order 3", &[&[3, 4]], |x| x[0].norm_p(3.0, 1)).domain(0.3, 2.0),
    ]);
    rows
}

/// The fold in plain loops.
fn reference(x: &[f64], shape: &Shape, axes: &[usize], fold: fn(f64, f64) -> f64, start: f64) -> Vec<f64> {
    let kept: Shape = (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
    let mut out = vec![start; kept.count()];
    for (i, &value) in x.iter().enumerate() {
        let (mut rest, mut position, mut step) = (i, 0, 1);
        for axis in (0..shape.rank()).rev() {
            let coordinate = rest % shape[axis];
            rest /= shape[axis];
            if !axes.contains(&axis) {
                position += coordinate * step;
                step *= shape[axis];
            }
        }
        out[position] = fold(out[position], value);
    }
    out
}
