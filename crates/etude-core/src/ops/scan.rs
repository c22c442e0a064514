//! Running folds along an axis: sums, products, and first-order linear recurrences.

use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::index::around;
use crate::ops::{Case, Row};
use crate::{DType, Tensor, cat};
use etude_kernels::Float;
use etude_kernels::scan::{Number, cumulative_product, cumulative_sum};
use etude_kernels::threads::parallel_chunks;
use std::hash::Hasher;

/// A running sum or product.
#[derive(Debug)]
struct Cumulative {
    product: bool,
    axis: usize,
}

impl Operation for Cumulative {
    fn name(&self) -> &'static str {
        if self.product { "cumprod" } else { "cumsum" }
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        match inputs[0].dtype {
            DType::Bool => Err("does not take bool; convert with .to(…)".into()),
            _ => Ok(vec![inputs[0]]),
        }
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (x, y, g, axis) = (&step.inputs[0], &step.outputs[0], step.gradient(0), self.axis as i32);
        if !self.product {
            return Ok(vec![Some(g.flip(axis).cumsum(axis).flip(axis))]);
        }
        // ∂L/∂xᵢ = (Π_{j<i} xⱼ) · Sᵢ with Sᵢ = Σ_{k≥i} g_k Π_{i<j≤k} xⱼ = gᵢ + xᵢ₊₁·Sᵢ₊₁: no division, so zeros are
        // nothing special.
        let size = x.size(axis);
        if size == 0 {
            return Ok(vec![Some(g)]);
        }
        let end = x.narrow(axis, 0, 1).ones_like();
        let before = cat(&[end.clone(), y.narrow(axis, 0, size - 1)], axis);
        let next = cat(&[x.narrow(axis, 1, size - 1), end], axis);
        let sums = next.flip(axis).linear_scan(&g.flip(axis), axis).flip(axis);
        Ok(vec![Some(before * sums)])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fold::<f32>(call),
            DType::F64 => self.fold::<f64>(call),
            DType::I32 => self.fold::<i32>(call),
            DType::I64 => self.fold::<i64>(call),
            DType::U8 | DType::Bool => self.fold::<u8>(call),
        }
        Ok(())
    }
}

impl Cumulative {
    fn fold<T: Number>(&self, call: &mut Call) {
        let (outer, size, inner) = around(&call.shape(0), self.axis);
        let fold = if self.product { cumulative_product::<T> } else { cumulative_sum::<T> };
        fold(outer, size, inner, call.input(0), call.output(0));
    }
}

/// `hᵢ = aᵢ·hᵢ₋₁ + bᵢ` along the axis, from 0.
#[derive(Debug)]
struct LinearScan {
    axis: usize,
}

impl Operation for LinearScan {
    fn name(&self) -> &'static str {
        "linear_scan"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (a, b) = (inputs[0], inputs[1]);
        if a.shape != b.shape {
            return Err("both sides need one shape; expand the smaller".into());
        }
        if a.dtype != b.dtype || !a.dtype.is_float() {
            return Err(format!("takes two of one floating dtype, not {} and {}", a.dtype, b.dtype));
        }
        Ok(vec![b])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (a, h, g, axis) = (&step.inputs[0], &step.outputs[0], step.gradient(0), self.axis as i32);
        let size = a.size(axis);
        if size == 0 {
            return Ok(vec![Some(g.clone()), Some(g)]);
        }
        // ∂L/∂bᵢ = gᵢ + aᵢ₊₁·∂L/∂bᵢ₊₁, the same recurrence from the other end; ∂L/∂aᵢ = hᵢ₋₁·∂L/∂bᵢ.
        let end = a.narrow(axis, 0, 1).zeros_like();
        let next = cat(&[a.narrow(axis, 1, size - 1), end.clone()], axis);
        let by_b = next.flip(axis).linear_scan(&g.flip(axis), axis).flip(axis);
        let by_a = step.needed[0].then(|| cat(&[end, h.narrow(axis, 0, size - 1)], axis) * &by_b);
        Ok(vec![by_a, Some(by_b)])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.scan::<f32>(call),
            _ => self.scan::<f64>(call),
        }
        Ok(())
    }
}

impl LinearScan {
    fn scan<T: Float>(&self, call: &mut Call) {
        let (_, size, inner) = around(&call.shape(0), self.axis);
        let (a, b) = (call.input::<T>(0), call.input::<T>(1));
        let line = size * inner;
        // As many whole lines to a task as make it worth its start.
        let each = ((1 << 14) / line.max(1)).max(1) * line;
        if line == 0 {
            return;
        }
        parallel_chunks(call.output::<T>(0), each, |task, piece| {
            for (i, h) in piece.chunks_exact_mut(line).enumerate() {
                let from = task * each + i * line;
                recur(inner, &a[from..from + line], &b[from..from + line], h);
            }
        });
    }
}

/// One block `[size, inner]` of a linear scan.
fn recur<T: Float>(inner: usize, a: &[T], b: &[T], h: &mut [T]) {
    if inner == 1 {
        let mut last = T::default();
        for ((h, &a), &b) in h.iter_mut().zip(a).zip(b) {
            last = a * last + b;
            *h = last;
        }
        return;
    }
    h[..inner].copy_from_slice(&b[..inner]);
    for row in 1..h.len() / inner {
        let (done, rest) = h.split_at_mut(row * inner);
        let before = &done[(row - 1) * inner..];
        let (a, b) = (&a[row * inner..][..inner], &b[row * inner..][..inner]);
        for i in 0..inner {
            rest[i] = a[i] * before[i] + b[i];
        }
    }
}

impl Tensor {
    /// The running sum along `axis`: `yᵢ = Σ_{j≤i} xⱼ`. Floats are summed in f64 and rounded once.
    #[track_caller]
    pub fn cumsum(&self, axis: i32) -> Tensor {
        Tensor::record(Cumulative { product: false, axis: self.axis("cumsum", axis) }, &[self])
    }

    /// The running product along `axis`: `yᵢ = Π_{j≤i} xⱼ`. The gradient is right where factors are 0 as well.
    #[track_caller]
    pub fn cumprod(&self, axis: i32) -> Tensor {
        Tensor::record(Cumulative { product: true, axis: self.axis("cumprod", axis) }, &[self])
    }

    /// The recurrence `hᵢ = aᵢ·hᵢ₋₁ + bᵢ` along `axis` from `h₋₁ = 0`, with this tensor as `a`; both have one shape.
    /// Discounted returns, exponential averages and diagonal state spaces are of this form.
    #[track_caller]
    pub fn linear_scan(&self, b: &Tensor, axis: i32) -> Tensor {
        Tensor::record(LinearScan { axis: self.axis("linear_scan", axis) }, &[self, b])
    }
}

/// A fold over `[outer, size, inner]` in plain loops: `fold(last, position)`.
fn running(outer: usize, size: usize, inner: usize, start: f64, fold: impl Fn(f64, usize) -> f64) -> Vec<f64> {
    let mut y = vec![0.0; outer * size * inner];
    for o in 0..outer {
        for i in 0..inner {
            let mut last = start;
            for k in 0..size {
                let at = (o * size + k) * inner + i;
                last = fold(last, at);
                y[at] = last;
            }
        }
    }
    y
}

pub(crate) fn rows() -> Vec<Row> {
    let shapes: [(&[usize], i32, [usize; 3]); 5] = [
        (&[2, 5], 1, [2, 5, 1]),
        (&[4, 3], 0, [1, 4, 3]),
        (&[2, 3, 2], 1, [2, 3, 2]),
        (&[3, 1], -1, [3, 1, 1]),
        (&[2, 0, 3], 1, [2, 0, 3]),
    ];
    let (mut sums, mut products, mut scans) = (Vec::new(), Vec::new(), Vec::new());
    for (shape, axis, [outer, size, inner]) in shapes {
        let name = |what: &str| format!("{what} {shape:?} along {axis}");
        sums.push(
            Case::new(name("cumsum"), &[shape], move |x| x[0].cumsum(axis))
                .reference(move |x| running(outer, size, inner, 0.0, |sum, at| sum + x[0][at])),
        );
        products.push(
            Case::new(name("cumprod"), &[shape], move |x| x[0].cumprod(axis))
                .reference(move |x| running(outer, size, inner, 1.0, |product, at| product * x[0][at])),
        );
        scans.push(
            Case::new(name("linear_scan"), &[shape, shape], move |x| x[0].linear_scan(&x[1], axis))
                .reference(move |x| running(outer, size, inner, 0.0, |h, at| x[0][at] * h + x[1][at])),
        );
    }
    let zeros = Case::new("cumprod with zeros", &[&[2, 5]], |x| {
        (&x[0] + Tensor::from_slice(&[2.0, 0.0, -1.5, 0.0, 3.0], [5])).cumprod(1)
    });
    products.push(zeros.domain(0.0, 0.0));
    vec![
        Row { name: "cumsum", cases: sums },
        Row { name: "cumprod", cases: products },
        Row { name: "linear_scan", cases: scans },
    ]
}

#[cfg(test)]
mod tests {
    use crate::tensor;

    #[test]
    fn the_gradient_of_a_running_product_passes_zeros() {
        let x = tensor([2.0, 0.0, 3.0, 0.0, 5.0]).variable();
        let gradients = x.cumprod(0).sum(..).backward().unwrap();
        // By the first: 1. By the second: 2 + 2·3 (the later terms hold the second zero). By the others: 0 before them.
        assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>(), [1.0, 8.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn discounted_returns_are_a_linear_scan() {
        let rewards = tensor([1.0, 0.0, 2.0]);
        let discount = tensor([0.5, 0.5, 0.5]);
        let returns = discount.linear_scan(&rewards.flip(0), 0).flip(0);
        assert_eq!(returns.to_vec::<f32>(), [1.5, 1.0, 2.0]);
    }

    #[test]
    fn whole_numbers_are_counted_exactly() {
        let x = tensor([1, 2, 3]);
        assert_eq!(x.cumsum(0).to_vec::<i64>(), [1, 3, 6]);
        assert_eq!(x.cumprod(0).to_vec::<i64>(), [1, 2, 6]);
    }
}
