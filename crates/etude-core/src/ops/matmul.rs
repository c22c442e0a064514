//! Matrix products, batched and broadcast.

use crate::node::Source;
use crate::operation::{Backward, Call, Kind, Meta, Operation, View, WeightAxis, bytes};
use crate::ops::{Case, Row, packed};
use crate::{DType, Shape, Tensor};
use etude_kernels::matmul::{Operand, matmul, matmul_update, takes_update};
use etude_kernels::{Cost, Float};

#[derive(Debug)]
pub(crate) struct MatMul;

static MATMUL: MatMul = MatMul;

/// Columns a fixed right side must have to be packed: half a panel.
const FEWEST_COLUMNS: usize = 16;

impl Operation for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let [a, b] = [inputs[0], inputs[1]];
        let ([.., m, k], [.., k2, n]) = (&a.shape[..], &b.shape[..]) else {
            return Err("both sides need at least two axes".into());
        };
        if k != k2 {
            return Err(format!("the inner sizes differ, {k} against {k2}"));
        }
        if a.dtype != b.dtype || !a.dtype.is_float() {
            return Err(format!("takes two of one floating dtype, not {} and {}", a.dtype, b.dtype));
        }
        let batch = |shape: &Shape| Shape::new(&shape[..shape.rank() - 2]);
        let mut shape = batch(&a.shape)
            .broadcast(&batch(&b.shape))
            .map_err(|_| format!("the batch axes {} and {} do not broadcast", batch(&a.shape), batch(&b.shape)))?;
        shape.push(*m);
        shape.push(*n);
        Ok(vec![Meta::new(shape, a.dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (a, b, g) = (&step.inputs[0], &step.inputs[1], step.gradient(0));
        // The gradient of a transposed weight is made transposed, so that the weight's own lies in rows as the weight does.
        let by_a = step.needed[0].then(|| match is_transposed(a) {
            true => b.batched(&g.t()).t().sum_to(a.shape()),
            false => g.batched(&b.t()).sum_to(a.shape()),
        });
        let by_b = step.needed[1].then(|| match is_transposed(b) {
            true => g.t().batched(a).t().sum_to(b.shape()),
            false => a.t().batched(&g).sum_to(b.shape()),
        });
        Ok(vec![by_a, by_b])
    }

    fn weight_axis(&self, inputs: &[Meta]) -> Option<WeightAxis> {
        let output = inputs[0].shape.rank() - 1;
        (inputs[1].shape.rank() == 2).then_some(WeightAxis { input: 1, weight: 1, output })
    }

    /// A fixed right side is packed; products of very few columns do better without.
    fn frozen(&self, inputs: &[Tensor], fixed: &[bool]) -> Option<Vec<Tensor>> {
        let [a, b] = [&inputs[0], &inputs[1]];
        let suits = !fixed[0] && fixed[1] && a.rank() == 2 && b.rank() == 2 && b.size(1) >= FEWEST_COLUMNS;
        suits.then(|| vec![packed::product(a, b)])
    }

    fn takes_update(&self, inputs: &[Meta]) -> bool {
        let ([m, k], [_, n]) = (&inputs[0].shape[..], &inputs[1].shape[..]) else { return false };
        inputs[0].dtype == DType::F32 && takes_update(*m, *k, *n)
    }

    fn contiguous(&self, _input: usize) -> bool {
        false
    }

    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        let inner = inputs[0].shape.last().copied().unwrap_or(0);
        let operations = 2 * outputs[0].shape.count() * inner;
        Cost { operations: operations as u64, bytes: bytes(inputs) + bytes(outputs) }
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match (call.update, call.dtype(0)) {
            (Some(update), _) => with_sides(call, |[m, k, n], a, b, _| matmul_update(m, k, n, a, b, update)),
            (_, DType::F32) => with_sides(call, |[m, k, n], a, b, call| matmul::<f32>(m, k, n, a, b, call.output(0))),
            _ => with_sides(call, |[m, k, n], a, b, call| matmul::<f64>(m, k, n, a, b, call.output(0))),
        }
        Ok(())
    }
}

/// Whether `x` was recorded as the transpose of something, its last two axes exchanged.
fn is_transposed(x: &Tensor) -> bool {
    let Some(Kind::View(View::Permute(order))) = x.node.source.operation().map(|operation| operation.kind()) else {
        return false;
    };
    let rank = order.len();
    rank >= 2
        && order[rank - 2..] == [rank - 1, rank - 2]
        && order[..rank - 2].iter().enumerate().all(|(axis, &from)| axis == from)
}

/// Runs `product` with its sizes m, k, n and its sides.
fn with_sides<T: Float>(call: &mut Call, product: impl FnOnce([usize; 3], Operand<T>, Operand<T>, &mut Call)) {
    let ((a, a_window), (b, b_window)) = (call.strided::<T>(0), call.strided::<T>(1));
    let out_shape = call.output_meta(0).shape;
    let rank = out_shape.rank();
    let (m, n, k) = (out_shape[rank - 2], out_shape[rank - 1], a_window.shape[a_window.shape.rank() - 1]);
    let batch = Shape::new(&out_shape[..rank - 2]);
    // Where each matrix of the batch starts: the window's offsets over the broadcast batch axes.
    let starts = |window: &crate::Window| -> Vec<usize> {
        let mut whole = batch;
        whole.push(window.shape[window.shape.rank() - 2]);
        whole.push(window.shape[window.shape.rank() - 1]);
        let window = window.expanded(&whole);
        let mut starts = Vec::with_capacity(batch.count());
        for index in 0..batch.count() {
            let (mut rest, mut at) = (index, window.offset as isize);
            for axis in (0..batch.rank()).rev() {
                at += (rest % batch[axis]) as isize * window.strides[axis];
                rest /= batch[axis];
            }
            starts.push(at as usize);
        }
        starts
    };
    let (a_starts, b_starts) = (starts(&a_window), starts(&b_window));
    let strides = |window: &crate::Window| {
        let rank = window.shape.rank();
        (window.strides[rank - 2], window.strides[rank - 1])
    };
    let ((a_row, a_column), (b_row, b_column)) = (strides(&a_window), strides(&b_window));
    let a = Operand { data: a, offsets: &a_starts, row_stride: a_row, column_stride: a_column };
    let b = Operand { data: b, offsets: &b_starts, row_stride: b_row, column_stride: b_column };
    product([m, k, n], a, b, call);
}

impl Tensor {
    /// The matrix product `[…, m, k] × […, k, n] → […, m, n]`; leading axes broadcast. A side with one axis is taken as
    /// a row (left) or a column (right) and that axis disappears again.
    ///
    /// # Panics
    /// If the inner sizes differ or the leading axes do not broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        match (self.rank(), other.rank()) {
            (1, 1) => self.unsqueeze(0).matmul(&other.unsqueeze(1)).reshape(Shape::scalar()),
            (1, _) => self.unsqueeze(0).matmul(other).squeeze(-2),
            (_, 1) => self.matmul(&other.unsqueeze(1)).squeeze(-1),
            // One matrix on the right serves all rows: one large product instead of many small ones.
            (rank, 2) if rank > 2 && self.size(-1) == other.size(0) => {
                let shape = self.shape();
                let rows = shape[..rank - 1].iter().product::<usize>();
                let product = self.reshape([rows, shape[rank - 1]]).batched(other);
                product.reshape(shape.with(rank - 1, other.size(1)))
            }
            _ => self.batched(other),
        }
    }

    /// The product without any of `matmul`'s conveniences.
    #[track_caller]
    fn batched(&self, other: &Tensor) -> Tensor {
        Tensor::record_source(Source::Table(&MATMUL), &[self, other])
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let product = |a: &[usize], b: &[usize]| Case::new("matmul", &[a, b], |x| x[0].matmul(&x[1]));
    let plain = |m: usize, k: usize, n: usize| {
        product(&[m, k], &[k, n]).reference(move |x| {
            let dot = |i: usize, j: usize| (0..k).map(|l| x[0][i * k + l] * x[1][l * n + j]).sum::<f64>();
            (0..m * n).map(|at| dot(at / n, at % n)).collect()
        })
    };
    let cases = vec![
        plain(2, 3, 4),
        plain(1, 1, 1),
        plain(7, 17, 5),
        plain(0, 3, 2),
        plain(3, 0, 2),
        product(&[2, 3, 4], &[4, 2]),
        product(&[2, 1, 3, 2], &[4, 2, 3]),
        product(&[1, 3, 2], &[5, 2, 1]),
        product(&[3], &[3, 2]),
        product(&[2, 3], &[3]),
        product(&[4], &[4]),
        Case::new("matmul of transposes", &[&[4, 2], &[3, 4]], |x| x[0].t().matmul(&x[1].t())),
        Case::new("matmul of slices", &[&[5, 4], &[2, 3]], |x| x[0].slice(1, 0, 4, 2).matmul(&x[1].flip(1))),
        Case::new("matmul with a repeated row", &[&[1, 3], &[3, 2]], |x| x[0].expand([4, 3]).matmul(&x[1])),
    ];
    vec![Row { name: "matmul", cases }]
}
