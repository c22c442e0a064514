//! Putting tensors into larger ones: pad, concatenate, stack, roll, repeat.

use crate::node::Source;
use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::Element;
use etude_kernels::copy;
use etude_kernels::tile::Scalar;
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The input laid into a tensor of `shape` that is filled with a number: from `start`, in steps of `step`.
#[derive(Debug)]
struct Embed {
    shape: Shape,
    start: Vec<usize>,
    step: Vec<usize>,
}

impl Operation for Embed {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (&self.start, &self.step).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![Meta::new(self.shape, inputs[0].dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (from, mut g) = (step.inputs[0].shape(), step.gradient(0));
        for axis in 0..from.rank() {
            let (start, stride) = (self.start[axis] as i64, self.step[axis] as i64);
            let end = start + (from[axis] as i64 - 1) * stride + 1;
            g = g.slice(axis as i32, start, if from[axis] == 0 { start } else { end }, stride);
        }
        Ok(vec![Some(g), None])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match self.shape_dtype(call) {
            DType::F32 => self.fill::<f32>(call),
            DType::F64 => self.fill::<f64>(call),
            DType::I32 => self.fill::<i32>(call),
            DType::I64 => self.fill::<i64>(call),
            DType::U8 | DType::Bool => self.fill::<u8>(call),
        }
        Ok(())
    }
}

impl Embed {
    fn shape_dtype(&self, call: &Call) -> DType {
        call.output_meta(0).dtype
    }

    fn fill<T: Element>(&self, call: &mut Call) {
        let (x, shape, value) = (call.input::<T>(0), call.shape(0), T::from_f64(call.float(1)));
        let out = call.output::<T>(0);
        out.fill(value);
        copy::into_window(x, &shape, out, &self.shape, &self.start, &self.step);
    }
}

/// `x` laid into a tensor of `shape` filled with the number `fill`.
#[track_caller]
pub(crate) fn embed(x: &Tensor, fill: &Tensor, shape: Shape, start: Vec<usize>, step: Vec<usize>) -> Tensor {
    Tensor::record(Embed { shape, start, step }, &[x, fill])
}

/// A tensor that was laid into zeros along one axis.
struct Laid {
    axis: usize,
    start: usize,
    part: Tensor,
    shape: Shape,
}

impl Laid {
    fn of(x: &Tensor) -> Option<Laid> {
        let embed = (x.node.source.operation()? as &dyn Any).downcast_ref::<Embed>()?;
        let inputs = x.node.state().inputs.clone();
        let [part, fill] = &inputs[..] else { return None };
        let zero = matches!(fill.node.source, Source::Scalar(Scalar::Float(value)) if value == 0.0);
        let from = part.shape();
        let mut cut = (0..from.rank()).filter(|&axis| from[axis] != embed.shape[axis]);
        let axis = cut.next()?;
        let fits = zero && cut.next().is_none() && embed.step[axis] == 1;
        fits.then(|| Laid { axis, start: embed.start[axis], part: part.clone(), shape: embed.shape })
    }

    fn end(&self) -> usize {
        self.start + self.part.shape()[self.axis]
    }

    /// Joined with one that begins where this ends.
    #[track_caller]
    fn joined(self, next: Laid) -> Laid {
        let axis = self.axis as i32;
        let part = match (self.part.part_of(), next.part.part_of()) {
            // Neighbours in one tensor are a larger part of it.
            (Some((whole, along, start)), Some((other, other_along, other_start)))
                if Arc::ptr_eq(&whole.node, &other.node)
                    && whole.output == other.output
                    && (along, other_along) == (self.axis, self.axis)
                    && other_start == start + self.end() - self.start =>
            {
                whole.narrow(axis, start, next.end() - self.start)
            }
            _ => cat(&[self.part.clone(), next.part.clone()], axis),
        };
        Laid { part, ..self }
    }

    #[track_caller]
    fn whole(self) -> Tensor {
        if self.part.shape() == self.shape {
            return self.part;
        }
        let (mut start, step) = (vec![0; self.shape.rank()], vec![1; self.shape.rank()]);
        start[self.axis] = self.start;
        embed(&self.part, &Tensor::scalar(0.0, self.part.dtype()), self.shape, start, step)
    }
}

/// The sum of what arrives at one tensor on the way back. Parts that were laid into zeros side by side, as the gradients
/// of several slices are, are joined instead, so that taking a tensor apart costs nothing on the way back.
#[track_caller]
pub(crate) fn sum_of(terms: Vec<Tensor>) -> Tensor {
    let mut terms = terms;
    if terms.len() > 1 {
        let (mut laid, mut others): (Vec<Laid>, Vec<Tensor>) = (Vec::new(), Vec::new());
        for term in terms {
            match Laid::of(&term) {
                Some(part) if laid.first().is_none_or(|first| first.axis == part.axis) => laid.push(part),
                _ => others.push(term),
            }
        }
        laid.sort_by_key(|part| part.start);
        let mut runs: Vec<Laid> = Vec::new();
        for part in laid {
            match runs.pop() {
                Some(run) if run.end() == part.start => runs.push(run.joined(part)),
                Some(run) => runs.extend([run, part]),
                None => runs.push(part),
            }
        }
        others.extend(runs.into_iter().map(Laid::whole));
        terms = others;
    }
    terms.into_iter().reduce(|sum, term| sum + term).expect("something arrived")
}

/// Several tensors one after the other along an axis.
#[derive(Debug)]
struct Concatenate {
    axis: usize,
}

impl Operation for Concatenate {
    fn name(&self) -> &'static str {
        "concatenate"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let first = inputs[0];
        for other in &inputs[1..] {
            let fits = first.shape.rank() == other.shape.rank()
                && (0..first.shape.rank()).all(|i| i == self.axis || first.shape[i] == other.shape[i]);
            if !fits {
                return Err(format!("shapes may differ only in axis {}", self.axis));
            }
            if first.dtype != other.dtype {
                return Err(format!("the dtypes differ, {} against {}", first.dtype, other.dtype));
            }
        }
        let size = inputs.iter().map(|input| input.shape[self.axis]).sum();
        Ok(vec![Meta::new(first.shape.with(self.axis, size), first.dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let g = step.gradient(0);
        let sizes: Vec<usize> = step.inputs.iter().map(|input| input.shape()[self.axis]).collect();
        Ok(g.split(self.axis as i32, &sizes).into_iter().map(Some).collect())
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.output_meta(0).dtype {
            DType::F32 => self.join::<f32>(call),
            DType::F64 => self.join::<f64>(call),
            DType::I32 => self.join::<i32>(call),
            DType::I64 => self.join::<i64>(call),
            DType::U8 | DType::Bool => self.join::<u8>(call),
        }
        Ok(())
    }
}

impl Concatenate {
    fn join<T: Element>(&self, call: &mut Call) {
        let shape = call.output_meta(0).shape;
        let mut start = vec![0; shape.rank()];
        let step = vec![1; shape.rank()];
        for i in 0..call.inputs.len() {
            let (x, x_shape) = (call.input::<T>(i), call.shape(i));
            copy::into_window(x, &x_shape, call.output::<T>(0), &shape, &start, &step);
            start[self.axis] += x_shape[self.axis];
        }
    }
}

/// What stands outside the edge of a padded tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PadMode {
    /// This number.
    Constant(f64),
    /// The inside mirrored, the edge itself not repeated.
    Reflect,
    /// The edge repeated.
    Replicate,
    /// The other end.
    Circular,
}

/// Several tensors one after the other along `axis`.
///
/// # Panics
/// If there is none, or if the shapes differ in another axis.
#[track_caller]
pub fn cat(tensors: &[Tensor], axis: i32) -> Tensor {
    assert!(!tensors.is_empty(), "cat: at least one tensor is needed");
    if tensors.len() == 1 {
        return tensors[0].clone();
    }
    let axis = tensors[0].axis("cat", axis);
    let inputs: Vec<&Tensor> = tensors.iter().collect();
    Tensor::record(Concatenate { axis }, &inputs)
}

/// Several tensors of one shape along a new axis at `axis`.
#[track_caller]
pub fn stack(tensors: &[Tensor], axis: i32) -> Tensor {
    let raised: Vec<Tensor> = tensors.iter().map(|tensor| tensor.unsqueeze(axis)).collect();
    let axis = if axis < 0 { axis + raised.first().map_or(0, |t| t.rank()) as i32 } else { axis };
    cat(&raised, axis)
}

impl Tensor {
    /// Elements put before and after along the last axes: `amounts[i]` is (before, after) of axis `rank − len + i`.
    ///
    /// # Panics
    /// If there are more amounts than axes, or if a mode needs more elements than there are.
    #[track_caller]
    pub fn pad(&self, amounts: &[(usize, usize)], mode: PadMode) -> Tensor {
        let shape = self.shape();
        let rank = shape.rank();
        assert!(amounts.len() <= rank, "pad: {} pairs of amounts for {shape}, which has {rank} axes", amounts.len());
        let skip = rank - amounts.len();
        if let PadMode::Constant(value) = mode {
            let (mut start, mut padded) = (vec![0; rank], shape);
            for (i, &(before, after)) in amounts.iter().enumerate() {
                start[skip + i] = before;
                padded[skip + i] += before + after;
            }
            if padded == shape {
                return self.clone();
            }
            return embed(self, &Tensor::scalar(value, self.dtype()), padded, start, vec![1; rank]);
        }
        let mut result = self.clone();
        for (i, &(before, after)) in amounts.iter().enumerate().filter(|(_, amounts)| **amounts != (0, 0)) {
            let (axis, size) = (skip + i, shape[skip + i]);
            let most = if mode == PadMode::Reflect { size.saturating_sub(1) } else { size };
            let enough = before.max(after) <= most || (mode == PadMode::Replicate && size > 0);
            assert!(enough, "pad: {mode:?} by ({before}, {after}) needs more than the {size} elements of axis {axis}");
            result = result.pad_axis(axis as i32, before, after, mode);
        }
        result
    }

    #[track_caller]
    fn pad_axis(&self, axis: i32, before: usize, after: usize, mode: PadMode) -> Tensor {
        let size = self.size(axis);
        let edge = |index: usize, count: usize| {
            let part = self.narrow(axis, index, 1);
            let shape = part.shape();
            part.expand(shape.with(self.axis("pad", axis), count))
        };
        let (left, right) = match mode {
            PadMode::Reflect => {
                (self.narrow(axis, 1, before).flip(axis), self.narrow(axis, size - 1 - after, after).flip(axis))
            }
            PadMode::Replicate => (edge(0, before), edge(size - 1, after)),
            _ => (self.narrow(axis, size - before, before), self.narrow(axis, 0, after)),
        };
        cat(&[left, self.clone(), right], axis)
    }

    /// Elements moved along `axis` by `shift` places, those that leave one end coming in at the other.
    #[track_caller]
    pub fn roll(&self, axis: i32, shift: i64) -> Tensor {
        let size = self.size(axis);
        if size == 0 || shift.rem_euclid(size as i64) == 0 {
            return self.clone();
        }
        let cut = size - shift.rem_euclid(size as i64) as usize;
        cat(&[self.narrow(axis, cut, size - cut), self.narrow(axis, 0, cut)], axis)
    }

    /// The tensor repeated: axis `i` of the result has `counts[i]` copies one after the other. Missing leading axes
    /// count as size 1.
    #[track_caller]
    pub fn repeat(&self, counts: &[usize]) -> Tensor {
        let shape = self.shape();
        assert!(counts.len() >= shape.rank(), "repeat: {counts:?} has fewer numbers than {shape} has axes");
        let extra = counts.len() - shape.rank();
        let (mut raised, mut spread, mut result) = (Shape::scalar(), Shape::scalar(), Shape::scalar());
        for (i, &count) in counts.iter().enumerate() {
            let size = if i < extra { 1 } else { shape[i - extra] };
            if count != 1 {
                raised.push(1);
                spread.push(count);
            }
            raised.push(size);
            spread.push(size);
            result.push(size * count);
        }
        self.reshape(raised).expand(spread).reshape(result)
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let pad = vec![
        Case::new("pad with a number", &[&[2, 2]], |x| x[0].pad(&[(1, 0), (0, 1)], PadMode::Constant(7.0)))
            .reference(|x| vec![7.0, 7.0, 7.0, x[0][0], x[0][1], 7.0, x[0][2], x[0][3], 7.0]),
        Case::new("reflect", &[&[4]], |x| x[0].pad(&[(2, 3)], PadMode::Reflect).square())
            .reference(|x| [2, 1, 0, 1, 2, 3, 2, 1, 0].iter().map(|&i| x[0][i] * x[0][i]).collect()),
        Case::new("replicate", &[&[3]], |x| x[0].pad(&[(2, 1)], PadMode::Replicate))
            .reference(|x| [0, 0, 0, 1, 2, 2].iter().map(|&i| x[0][i]).collect()),
        Case::new("circular", &[&[3]], |x| x[0].pad(&[(2, 1)], PadMode::Circular))
            .reference(|x| [1, 2, 0, 1, 2, 0].iter().map(|&i| x[0][i]).collect()),
        Case::new("pad nothing", &[&[0, 2]], |x| x[0].pad(&[(1, 1), (0, 0)], PadMode::Constant(0.0))),
        Case::new("pad one", &[&[1, 1]], |x| x[0].pad(&[(2, 1), (0, 3)], PadMode::Replicate).square()),
    ];
    let concatenate = vec![
        Case::new("cat", &[&[2, 1], &[2, 2]], |x| cat(x, 1))
            .reference(|x| vec![x[0][0], x[1][0], x[1][1], x[0][1], x[1][2], x[1][3]]),
        Case::new("cat with nothing", &[&[0, 2], &[3, 2]], |x| cat(x, 0)).reference(|x| x[1].clone()),
        Case::new("stack", &[&[3], &[3]], |x| stack(x, -1).square())
            .reference(|x| (0..3).flat_map(|i| [x[0][i] * x[0][i], x[1][i] * x[1][i]]).collect()),
        Case::new("roll", &[&[5]], |x| x[0].roll(0, 2))
            .reference(|x| [3, 4, 0, 1, 2].iter().map(|&i| x[0][i]).collect()),
        Case::new("repeat", &[&[2]], |x| x[0].repeat(&[2, 2]))
            .reference(|x| [0, 1, 0, 1, 0, 1, 0, 1].iter().map(|&i| x[0][i]).collect()),
        // On the way back, parts of one tensor are joined again: in any order, with gaps, twice, along two axes.
        Case::new("parts side by side", &[&[5, 3]], |x| {
            let part = |start: usize, length: usize| x[0].narrow(0, start, length).square();
            part(3, 2).sum(0) + part(0, 1).sum(0) * 2.0 + part(1, 2).sum(0) * 3.0
        }),
        Case::new("parts with gaps and overlaps", &[&[6, 2]], |x| {
            let part = |start: usize| x[0].narrow(0, start, 2).square();
            part(4) + part(1) * 2.0 + part(1) * x[0].narrow(1, 0, 1).narrow(0, 2, 2) + part(3)
        }),
        Case::new("parts swapped", &[&[4, 2]], |x| cat(&[x[0].narrow(0, 2, 2), x[0].narrow(0, 0, 2)], 0) * &x[0]),
        Case::new("cat of views", &[&[3, 2], &[3, 2]], |x| cat(&[x[0].t(), x[1].flip(0).t()], 0).square()),
    ];
    vec![Row { name: "pad", cases: pad }, Row { name: "concatenate", cases: concatenate }]
}
