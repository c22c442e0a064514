//! Reading and writing at places that other tensors hold: rows by number, gather, scatter, embedding.

use crate::operation::{Backward, Call, Meta, Operation, bytes};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor, arange};
use etude_kernels::index;
use etude_kernels::scan::Number;
use etude_kernels::{Cost, Element};
use std::hash::Hasher;

/// The products of the sizes before `axis`, of `axis`, and of those after it.
pub(crate) fn around(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// `out[.., k, ..] = x[.., indices[k], ..]`; indices have one axis.
#[derive(Debug)]
pub(crate) struct Take {
    pub axis: usize,
}

impl Operation for Take {
    fn name(&self) -> &'static str {
        "index_select"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (x, indices) = (inputs[0], inputs[1].shape);
        if indices.rank() != 1 {
            return Err(format!("the indices must have one axis, not the shape {indices}; gather takes more"));
        }
        Ok(vec![Meta::new(x.shape.with(self.axis, indices[0]), x.dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let size = step.inputs[0].shape()[self.axis];
        Ok(vec![Some(add_rows(self.axis, size, &step.inputs[1], &step.gradient(0))), None])
    }

    /// Only the rows asked for are read.
    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        Cost { operations: 0, bytes: 2 * bytes(outputs) + bytes(&inputs[1..]) }
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.take::<f32>(call),
            DType::F64 => self.take::<f64>(call),
            DType::I32 => self.take::<i32>(call),
            DType::I64 => self.take::<i64>(call),
            DType::U8 | DType::Bool => self.take::<u8>(call),
        }
    }
}

impl Take {
    fn take<T: Element>(&self, call: &mut Call) -> Result<(), String> {
        let (outer, size, inner) = around(&call.shape(0), self.axis);
        let (x, indices) = (call.input::<T>(0), call.input::<i64>(1));
        index::take(outer, size, inner, x, indices, call.output(0)).map_err(|error| error.to_string())
    }
}

/// The transpose of [`Take`]: zeros of size `size` along the axis, with slice k of the source added at `indices[k]`.
#[derive(Debug)]
pub(crate) struct AddRows {
    pub axis: usize,
    pub size: usize,
}

/// See [`AddRows`].
#[track_caller]
pub(crate) fn add_rows(axis: usize, size: usize, indices: &Tensor, source: &Tensor) -> Tensor {
    Tensor::record(AddRows { axis, size }, &[indices, source])
}

impl Operation for AddRows {
    fn name(&self) -> &'static str {
        "index_add"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (indices, source) = (inputs[0].shape, inputs[1]);
        numbers(source.dtype)?;
        if indices != [source.shape[self.axis]] {
            return Err(format!(
                "the indices must be as many as the source has along axis {}, {}; their shape is {indices}",
                self.axis, source.shape[self.axis]
            ));
        }
        Ok(vec![Meta::new(source.shape.with(self.axis, self.size), source.dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        Ok(vec![None, Some(step.gradient(0).index_select(self.axis as i32, &step.inputs[0]))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.output_meta(0).dtype {
            DType::F32 => self.add::<f32>(call),
            DType::F64 => self.add::<f64>(call),
            DType::I32 => self.add::<i32>(call),
            DType::I64 => self.add::<i64>(call),
            DType::U8 | DType::Bool => self.add::<u8>(call),
        }
    }
}

impl AddRows {
    fn add<T: Number>(&self, call: &mut Call) -> Result<(), String> {
        let (outer, _, inner) = around(&call.shape(1), self.axis);
        let (indices, source) = (call.input::<i64>(0), call.input::<T>(1));
        index::take_add(outer, self.size, inner, indices, source, call.output(0)).map_err(|error| error.to_string())
    }
}

/// `out[.., k, ..] = x[.., indices[.., k, ..], ..]` along the axis.
#[derive(Debug)]
struct Gather {
    axis: usize,
}

impl Operation for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (x, indices) = (inputs[0], inputs[1].shape);
        fits(&x.shape, &indices, self.axis)?;
        Ok(vec![Meta::new(indices, x.dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (shape, indices) = (step.inputs[0].shape(), &step.inputs[1]);
        Ok(vec![Some(add_at(self.axis, shape, indices, &step.gradient(0))), None])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.gather::<f32>(call),
            DType::F64 => self.gather::<f64>(call),
            DType::I32 => self.gather::<i32>(call),
            DType::I64 => self.gather::<i64>(call),
            DType::U8 | DType::Bool => self.gather::<u8>(call),
        }
    }
}

impl Gather {
    fn gather<T: Element>(&self, call: &mut Call) -> Result<(), String> {
        let (x, indices) = (call.input::<T>(0), call.input::<i64>(1));
        let (x_shape, index_shape) = (call.shape(0), call.shape(1));
        index::gather(x, &x_shape, self.axis, indices, &index_shape, call.output(0)).map_err(|error| error.to_string())
    }
}

/// The transpose of [`Gather`]: zeros of `shape`, with the source's elements added where the indices say.
#[derive(Debug)]
struct AddAt {
    axis: usize,
    shape: Shape,
}

/// See [`AddAt`].
#[track_caller]
fn add_at(axis: usize, shape: Shape, indices: &Tensor, source: &Tensor) -> Tensor {
    Tensor::record(AddAt { axis, shape }, &[indices, source])
}

impl Operation for AddAt {
    fn name(&self) -> &'static str {
        "scatter_add"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (indices, source) = (inputs[0].shape, inputs[1]);
        numbers(source.dtype)?;
        fits(&self.shape, &indices, self.axis)?;
        one_each(&indices, &source.shape)?;
        Ok(vec![Meta::new(self.shape, source.dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        Ok(vec![None, Some(step.gradient(0).gather(self.axis as i32, &step.inputs[0]))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.output_meta(0).dtype {
            DType::F32 => self.add::<f32>(call),
            DType::F64 => self.add::<f64>(call),
            DType::I32 => self.add::<i32>(call),
            DType::I64 => self.add::<i64>(call),
            DType::U8 | DType::Bool => self.add::<u8>(call),
        }
    }
}

impl AddAt {
    fn add<T: Number>(&self, call: &mut Call) -> Result<(), String> {
        let (indices, source, index_shape) = (call.input::<i64>(0), call.input::<T>(1), call.shape(0));
        let out = call.output::<T>(0);
        out.fill(T::default());
        index::scatter_add(out, &self.shape, self.axis, indices, &index_shape, source)
            .map_err(|error| error.to_string())
    }
}

/// `x` with the source's elements in the places the indices say; of several writes to one place the last stays.
#[derive(Debug)]
struct Scatter {
    axis: usize,
}

impl Operation for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (x, indices, source) = (inputs[0], inputs[1].shape, inputs[2]);
        fits(&x.shape, &indices, self.axis)?;
        one_each(&indices, &source.shape)?;
        if x.dtype != source.dtype {
            return Err(format!("the dtypes differ, {} against {}", x.dtype, source.dtype));
        }
        Ok(vec![x])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (axis, g, indices) = (self.axis as i32, step.gradient(0), &step.inputs[1]);
        let zeros = Tensor::scalar(0.0, g.dtype()).expand(indices.shape());
        let by_x = step.needed[0].then(|| g.scatter(axis, indices, &zeros));
        let by_source = step.needed[2].then(|| {
            // Each element writes its number; those that still read their own afterwards were the last.
            let shape = indices.shape();
            let line: Shape = (0..shape.rank()).map(|i| if i == self.axis { shape[i] } else { 1 }).collect();
            let number = arange(shape[self.axis]).reshape(line).expand(shape);
            let ground = Tensor::scalar_int(-1).expand(step.inputs[0].shape());
            let stayed = ground.scatter(axis, indices, &number).gather(axis, indices).equal(&number);
            stayed.select(&g.gather(axis, indices), &zeros)
        });
        Ok(vec![by_x, None, by_source])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.scatter::<f32>(call),
            DType::F64 => self.scatter::<f64>(call),
            DType::I32 => self.scatter::<i32>(call),
            DType::I64 => self.scatter::<i64>(call),
            DType::U8 | DType::Bool => self.scatter::<u8>(call),
        }
    }
}

impl Scatter {
    fn scatter<T: Element>(&self, call: &mut Call) -> Result<(), String> {
        let (x, indices, source) = (call.input::<T>(0), call.input::<i64>(1), call.input::<T>(2));
        let (shape, index_shape) = (call.shape(0), call.shape(1));
        let out = call.output::<T>(0);
        out.copy_from_slice(x);
        index::scatter_set(out, &shape, self.axis, indices, &index_shape, source).map_err(|error| error.to_string())
    }
}

/// Refuses truth values, which have no sum.
fn numbers(dtype: DType) -> Result<(), String> {
    match dtype {
        DType::Bool => Err("does not add bool; convert with .to(…)".into()),
        _ => Ok(()),
    }
}

/// Indices must have the rank of what they point into, and beside the axis reach no further.
fn fits(shape: &Shape, indices: &Shape, axis: usize) -> Result<(), String> {
    let rank = shape.rank();
    if rank != indices.rank() {
        return Err(format!("the indices need as many axes as what they point into, {rank}; their shape is {indices}"));
    }
    match (0..rank).find(|&i| i != axis && indices[i] > shape[i]) {
        Some(i) => {
            Err(format!("the indices have {} along axis {i}, what they point into only {}", indices[i], shape[i]))
        }
        None => Ok(()),
    }
}

fn one_each(indices: &Shape, source: &Shape) -> Result<(), String> {
    match indices == source {
        true => Ok(()),
        false => Err(format!("each index needs one element of the source: {indices} indices, {source} elements")),
    }
}

/// Indices as `i64`.
#[track_caller]
fn whole(operation: &str, indices: &Tensor) -> Tensor {
    let dtype = indices.dtype();
    let fine = !dtype.is_float() && dtype != DType::Bool;
    assert!(fine, "{operation}: indices must be whole numbers, these are {dtype}; convert with .to(DType::I64)");
    indices.to(DType::I64)
}

impl Tensor {
    /// The slices number `indices[0]`, `indices[1]`, … along `axis`, as often as they are named: `indices` has one axis
    /// of whole numbers, negative ones count from the end. `[…, n, …]` becomes `[…, indices.len(), …]`.
    ///
    /// An index out of range is found when the value is read, and the error names its position, itself and the size.
    #[track_caller]
    pub fn index_select(&self, axis: i32, indices: &Tensor) -> Tensor {
        let axis = self.axis("index_select", axis);
        Tensor::record(Take { axis }, &[self, &whole("index_select", indices)])
    }

    /// One element for each index, taken along `axis`: `y[.., k, ..] = x[.., indices[.., k, ..], ..]`. The indices
    /// (whole numbers, negative ones count from the end) have as many axes as this tensor, and beside `axis` are no
    /// larger; the result has their shape.
    #[track_caller]
    pub fn gather(&self, axis: i32, indices: &Tensor) -> Tensor {
        let axis = self.axis("gather", axis);
        Tensor::record(Gather { axis }, &[self, &whole("gather", indices)])
    }

    /// This tensor with elements replaced along `axis`: `y[.., indices[.., k, ..], ..] = source[.., k, ..]`. Of several
    /// writes to one place the last k stays, and it alone receives that place's gradient.
    ///
    /// # Panics
    /// If the indices do not fit as in [`Tensor::gather`], or the source has another shape than they.
    #[track_caller]
    pub fn scatter(&self, axis: i32, indices: &Tensor, source: &Tensor) -> Tensor {
        let axis = self.axis("scatter", axis);
        Tensor::record(Scatter { axis }, &[self, &whole("scatter", indices), source])
    }

    /// This tensor with elements added along `axis`: `y[.., indices[.., k, ..], ..] += source[.., k, ..]`, in the order
    /// of k, so that the sums have the same bits on any number of threads.
    ///
    /// # Panics
    /// If the indices do not fit as in [`Tensor::gather`], or the source has another shape than they.
    #[track_caller]
    pub fn scatter_add(&self, axis: i32, indices: &Tensor, source: &Tensor) -> Tensor {
        let axis = self.axis("scatter_add", axis);
        self + add_at(axis, self.shape(), &whole("scatter_add", indices), source)
    }

    /// This tensor with whole slices added along `axis`: slice k of `source` to slice `indices[k]`, in the order of k.
    ///
    /// # Panics
    /// If the source does not have this tensor's shape with `indices.len()` along `axis`.
    #[track_caller]
    pub fn index_add(&self, axis: i32, indices: &Tensor, source: &Tensor) -> Tensor {
        let (shape, from, at) = (self.shape(), source.shape(), self.axis("index_add", axis));
        let fits = shape.rank() == from.rank() && (0..shape.rank()).all(|i| i == at || shape[i] == from[i]);
        assert!(fits, "index_add: the source {from} may differ from {shape} only in axis {axis}");
        self + add_rows(at, shape[at], &whole("index_add", indices), source)
    }

    /// Each slice along `axis` `count` times, one after the other: `[a, b]` twice is `[a, a, b, b]`.
    #[track_caller]
    pub fn repeat_interleave(&self, axis: i32, count: usize) -> Tensor {
        let (shape, at) = (self.shape(), self.axis("repeat_interleave", axis));
        if count == 1 {
            return self.clone();
        }
        // Axes before and after as one each, so that a tensor of the highest rank finds room for the copies.
        let (outer, size, inner) = around(&shape, at);
        let spread = self.reshape([outer, size, 1, inner]).expand([outer, size, count, inner]);
        spread.reshape(shape.with(at, size * count))
    }
}

/// Rows of `weights` `[V, D]` by number: ids `[…]` become `[…, D]`. Ids are whole numbers, negative ones count from the
/// end. The gradient adds up rows, in the order of the ids; no one-hot matrix is made.
#[track_caller]
pub fn embedding(weights: &Tensor, ids: &Tensor) -> Tensor {
    assert!(weights.rank() == 2, "embedding: the weights must be [ids, features], not {}", weights.shape());
    let mut shape = ids.shape();
    shape.push(weights.size(1));
    weights.index_select(0, &ids.flatten()).reshape(shape)
}

/// As [`embedding`], but no gradient reaches row `padding` of the weights (negative: counted from the end), which stands
/// for "nothing here". Ids that mean it must name it by its number, not from the end.
#[track_caller]
pub fn embedding_padded(weights: &Tensor, ids: &Tensor, padding: i64) -> Tensor {
    let rows = embedding(weights, ids);
    let ids = whole("embedding", ids);
    let row = if padding < 0 { padding + weights.size(0) as i64 } else { padding };
    let nothing = ids.equal(Tensor::scalar_int(row)).unsqueeze(-1);
    nothing.select(&rows.detach(), &rows)
}

pub(crate) fn rows() -> Vec<Row> {
    let places = |values: &[i64], shape: &[usize]| Tensor::from_slice(values, shape);
    let (pick, none) = (places(&[2, -3, 2, 1], &[4]), places(&[], &[0]));
    let table = places(&[0, 2, -1, 2], &[2, 2]);
    let picked = |x: &[Vec<f64>]| [2, 0, 2, 1].iter().flat_map(|&i| x[0][2 * i..2 * i + 2].to_vec()).collect();
    let select = vec![
        case("index_select", &[&[3, 2]], &pick, |x, i| x[0].index_select(0, i)).reference(picked),
        case("index_select of an inner axis", &[&[2, 3, 2]], &pick, |x, i| x[0].index_select(1, i).square()),
        case("index_select of the last axis", &[&[2, 3]], &pick, |x, i| x[0].index_select(-1, &i.to(DType::I32))),
        case("index_select of nothing", &[&[3, 2]], &none, |x, i| x[0].index_select(0, i)),
        case("index_select of rows of nothing", &[&[3, 0]], &pick, |x, i| x[0].index_select(0, i)),
        case("index_select of one", &[&[1, 2]], &places(&[0, -1, 0], &[3]), |x, i| x[0].index_select(0, i).square()),
        case("index_select by a number", &[&[3, 2]], &Tensor::scalar_int(-1), |x, i| {
            x[0].index_select(0, &i.flatten())
        })
        .reference(|x| x[0][4..].to_vec()),
        case("embedding", &[&[3, 2]], &table, |x, i| embedding(&x[0], i).square())
            .reference(|x| [0, 2, 2, 2].iter().flat_map(|&i| x[0][2 * i..2 * i + 2].to_vec()).map(|v| v * v).collect()),
        case("repeat_interleave", &[&[2, 3]], &none, |x, _| x[0].repeat_interleave(1, 2))
            .reference(|x| x[0].iter().flat_map(|&v| [v, v]).collect()),
    ];
    let add = vec![
        case("index_add", &[&[3, 2], &[4, 2]], &pick, |x, i| x[0].index_add(0, i, &x[1])).reference(|x| {
            let mut y = x[0].clone();
            [2, 0, 2, 1].iter().enumerate().for_each(|(k, &i)| (0..2).for_each(|j| y[2 * i + j] += x[1][2 * k + j]));
            y
        }),
        case("index_add along the last axis", &[&[2, 3], &[2, 4]], &pick, |x, i| x[0].index_add(-1, i, &x[1]).square()),
        case("index_add of nothing", &[&[3, 2], &[0, 2]], &none, |x, i| x[0].index_add(0, i, &x[1])),
        case("index_add to one", &[&[1, 2], &[2, 2]], &places(&[0, 0], &[2]), |x, i| {
            x[0].index_add(0, i, &x[1]).square()
        }),
    ];
    let gather = vec![
        case("gather", &[&[3, 2]], &table, |x, i| x[0].gather(0, i))
            .reference(|x| vec![x[0][0], x[0][5], x[0][4], x[0][5]]),
        case("gather a longer axis", &[&[2, 3]], &places(&[1, 1, 0, 2, -1, 0, 0, 0], &[2, 4]), |x, i| {
            x[0].gather(1, i).square()
        }),
        case("gather an inner axis", &[&[2, 3, 2]], &places(&[2, 0, -1, 1], &[2, 1, 2]), |x, i| x[0].gather(1, i)),
        case("gather nothing", &[&[3, 2]], &places(&[], &[0, 2]), |x, i| x[0].gather(0, i)),
        case("gather from columns of nothing", &[&[3, 0]], &places(&[], &[2, 0]), |x, i| x[0].gather(0, i)),
        case("gather from one", &[&[1, 2]], &places(&[0, -1], &[1, 2]), |x, i| x[0].gather(0, i).square()),
    ];
    let scatter_add = vec![
        case("scatter_add", &[&[3, 2], &[2, 2]], &table, |x, i| x[0].scatter_add(0, i, &x[1])).reference(|x| {
            let mut y = x[0].clone();
            [0, 5, 4, 5].iter().zip(&x[1]).for_each(|(&at, v)| y[at] += v);
            y
        }),
        case("scatter_add of nothing", &[&[3, 2], &[0, 2]], &places(&[], &[0, 2]), |x, i| {
            x[0].scatter_add(0, i, &x[1])
        }),
        case("scatter_add and square", &[&[2, 3, 2], &[2, 1, 2]], &places(&[2, 0, -1, 1], &[2, 1, 2]), |x, i| {
            x[0].scatter_add(1, i, &x[1]).square()
        }),
    ];
    let scatter = vec![
        case("scatter", &[&[3, 2], &[2, 2]], &table, |x, i| x[0].scatter(0, i, &x[1])).reference(|x| {
            let mut y = x[0].clone();
            [0, 5, 4, 5].iter().zip(&x[1]).for_each(|(&at, v)| y[at] = *v);
            y
        }),
        case("scatter and square", &[&[4, 2], &[4, 1]], &places(&[1, 1, 3, 1], &[4, 1]), |x, i| {
            x[0].scatter(0, i, &x[1]).square()
        }),
        case("scatter nothing", &[&[3, 2], &[0, 2]], &places(&[], &[0, 2]), |x, i| x[0].scatter(0, i, &x[1])),
    ];
    vec![
        Row { name: "index_select", cases: select },
        Row { name: "index_add", cases: add },
        Row { name: "gather", cases: gather },
        Row { name: "scatter_add", cases: scatter_add },
        Row { name: "scatter", cases: scatter },
    ]
}

/// A case that reads or writes at `indices`.
fn case(name: &str, shapes: &[&[usize]], indices: &Tensor, run: fn(&[Tensor], &Tensor) -> Tensor) -> Case {
    let indices = indices.clone();
    Case::new(name, shapes, move |x| run(x, &indices))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor;

    #[test]
    fn an_index_out_of_range_names_itself_its_place_and_its_line() {
        let x = tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        let bad = tensor([0, -3, 3]);
        let error = x.index_select(0, &bad).eval().expect_err("3 is outside").to_string();
        for part in ["index_select", "index 3", "position 2", "size 3", "index.rs"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(x.gather(0, &tensor([[0, -4]])).eval().is_err());
        assert!(x.scatter(1, &tensor([[2]]), &tensor([[9.0]])).eval().is_err());
        assert!(x.scatter_add(1, &tensor([[2]]), &tensor([[9.0]])).eval().is_err());
        assert!(x.index_add(0, &tensor([7]), &tensor([[9.0, 9.0]])).eval().is_err());
        assert!(embedding(&x, &tensor([[5]])).eval().is_err());
    }

    #[test]
    fn the_last_of_several_writes_stays_and_takes_the_gradient() {
        let (x, source) = (tensor([1.0, 1.0]).variable(), tensor([5.0, 6.0, 7.0]).variable());
        let y = x.scatter(0, &tensor([1, 1, 1]), &source);
        assert_eq!(y.to_vec::<f32>(), [1.0, 7.0]);
        let gradients = y.sum(..).backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>(), [1.0, 0.0]);
        assert_eq!(gradients.get(&source).unwrap().to_vec::<f32>(), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn no_gradient_reaches_the_padding_row() {
        let weights = tensor([[1.0], [2.0], [3.0]]).variable();
        let y = embedding_padded(&weights, &tensor([2, 1, 1]), 2);
        assert_eq!(y.to_vec::<f32>(), [3.0, 2.0, 2.0]);
        let gradients = y.sum(..).backward().unwrap();
        assert_eq!(gradients.get(&weights).unwrap().to_vec::<f32>(), [0.0, 2.0, 0.0]);
    }

    #[test]
    fn integers_and_truth_values_are_picked_as_well() {
        let picked = Tensor::from_bools(&[true, false], [2]).index_select(0, &tensor([1, 0, 0]));
        assert_eq!((picked.dtype(), picked.to_vec::<u8>()), (DType::Bool, vec![0, 1, 1]));
        let counts = crate::zeros([3]).to(DType::I64).scatter_add(0, &tensor([2, 0, 2]), &tensor([1, 1, 1]));
        assert_eq!(counts.to_vec::<i64>(), [1, 0, 2]);
    }
}
