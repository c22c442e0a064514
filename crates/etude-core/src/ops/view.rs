//! Views: the same elements through another window. They cost nothing where strides can say it.

use crate::node::Source;
use crate::operation::{Backward, Kind, Meta, Operation, View};
use crate::ops::{Case, Row};
use crate::{Shape, Tensor};
use std::hash::{Hash, Hasher};

/// Every view operation: what it does to the window, and the shape that comes out.
#[derive(Debug)]
struct ViewOp {
    view: View,
    shape: Shape,
}

/// The same tensor under another node: what `detach` records.
#[derive(Debug)]
pub(crate) struct Alias;

pub(crate) static ALIAS: Alias = Alias;

impl Operation for Alias {
    fn name(&self) -> &'static str {
        "detach"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![inputs[0]])
    }

    fn kind(&self) -> Kind {
        Kind::View(View::Reshape)
    }
}

impl Operation for ViewOp {
    fn name(&self) -> &'static str {
        match self.view {
            View::Reshape => "reshape",
            View::Permute(_) => "permute",
            View::Expand => "expand",
            View::Slice(..) => "slice",
        }
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        self.view.hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let from = inputs[0].shape;
        match &self.view {
            View::Reshape if from.count() != self.shape.count() => {
                return Err(format!("{} elements do not fill {}", from.count(), self.shape));
            }
            View::Expand if from.broadcast(&self.shape) != Ok(self.shape) => {
                return Err(format!("does not broadcast to {}", self.shape));
            }
            _ => (),
        }
        Ok(vec![Meta::new(self.shape, inputs[0].dtype)])
    }

    fn kind(&self) -> Kind {
        Kind::View(self.view.clone())
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (from, g) = (step.inputs[0].shape(), step.gradient(0));
        Ok(vec![Some(match &self.view {
            View::Reshape => g.reshaped_back(from),
            View::Expand => g.sum_to(from),
            View::Permute(order) => {
                let mut inverse = vec![0; order.len()];
                order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i as i32);
                g.permute(inverse)
            }
            View::Slice(start, step) => {
                // Axes that ran backwards are turned round, so that the window is filled forwards.
                let mut first = start.clone();
                let mut forward = g.clone();
                for axis in 0..from.rank() {
                    if step[axis] < 0 && self.shape[axis] > 0 {
                        first[axis] = start[axis] - (self.shape[axis] - 1) * step[axis].unsigned_abs();
                        forward = forward.flip(axis as i32);
                    }
                }
                let step: Vec<usize> = step.iter().map(|step| step.unsigned_abs()).collect();
                super::window::embed(&forward, &Tensor::scalar(0.0, g.dtype()), from, first, step)
            }
        })])
    }
}

impl Tensor {
    #[track_caller]
    fn view(&self, view: View, shape: Shape) -> Tensor {
        Tensor::record_source(Source::Own(std::sync::Arc::new(ViewOp { view, shape })), &[self])
    }

    /// The same elements in row-major order under another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        if shape == self.shape() { self.clone() } else { self.view(View::Reshape, shape) }
    }

    /// As [`Tensor::reshape`]; a reshape from that shape is taken back.
    #[track_caller]
    fn reshaped_back(&self, shape: Shape) -> Tensor {
        let is_reshape = self.node.source.operation().is_some_and(|op| op.kind() == Kind::View(View::Reshape));
        let inputs = self.node.state().inputs.clone();
        match &inputs[..] {
            [before] if is_reshape && before.shape() == shape && before.node.constant == self.node.constant => {
                before.clone()
            }
            _ => self.reshape(shape),
        }
    }

    /// The tensor this is a dense part of along one axis, that axis and where the part starts.
    pub(crate) fn part_of(&self) -> Option<(Tensor, usize, usize)> {
        let Kind::View(View::Slice(start, step)) = self.node.source.operation()?.kind() else { return None };
        let whole = self.node.state().inputs.first()?.clone();
        let (shape, from) = (self.shape(), whole.shape());
        let mut cut = (0..shape.rank()).filter(|&axis| shape[axis] != from[axis]);
        let axis = cut.next()?;
        let fits = cut.next().is_none() && step[axis] == 1 && whole.node.constant == self.node.constant;
        fits.then_some((whole, axis, start[axis]))
    }

    /// All axes from `axis` on as one: `[B, C, H, W].flatten_from(1)` is `[B, C·H·W]`.
    #[track_caller]
    pub fn flatten_from(&self, axis: i32) -> Tensor {
        let shape = self.shape();
        let axis = self.axis("flatten_from", axis);
        let mut flat: Shape = shape[..axis].iter().copied().collect();
        flat.push(shape[axis..].iter().product());
        self.reshape(flat)
    }

    /// All elements as one axis.
    #[track_caller]
    pub fn flatten(&self) -> Tensor {
        self.reshape(self.count())
    }

    /// Without axis `axis`, which must have size 1.
    #[track_caller]
    pub fn squeeze(&self, axis: i32) -> Tensor {
        let at = self.axis("squeeze", axis);
        let shape = self.shape();
        assert!(shape[at] == 1, "squeeze: axis {axis} of {shape} has size {}, only 1 can be left out", shape[at]);
        self.reshape(shape.without(at))
    }

    /// With a new axis of size 1 at `axis`; `-1` puts it last.
    #[track_caller]
    pub fn unsqueeze(&self, axis: i32) -> Tensor {
        let rank = self.rank() as i32;
        let at = if axis < 0 { axis + rank + 1 } else { axis };
        assert!((0..=rank).contains(&at), "unsqueeze: {} has no place for an axis at {axis}", self.shape());
        self.reshape(self.shape().inserted(at as usize, 1))
    }

    /// Axes reordered: axis `i` of the result is axis `order[i]` of this tensor.
    #[track_caller]
    pub fn permute(&self, order: impl AsRef<[i32]>) -> Tensor {
        let (shape, order) = (self.shape(), order.as_ref());
        let axes: Vec<usize> = order.iter().map(|&axis| self.axis("permute", axis)).collect();
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        let whole: Vec<usize> = (0..shape.rank()).collect();
        assert!(sorted == whole, "permute: {order:?} does not name each axis of {shape} once");
        let permuted: Shape = axes.iter().map(|&axis| shape[axis]).collect();
        if axes == whole { self.clone() } else { self.view(View::Permute(axes), permuted) }
    }

    /// Two axes exchanged.
    #[track_caller]
    pub fn transpose(&self, a: i32, b: i32) -> Tensor {
        let (a, b) = (self.axis("transpose", a), self.axis("transpose", b));
        let mut order: Vec<i32> = (0..self.rank() as i32).collect();
        order.swap(a, b);
        self.permute(order)
    }

    /// The matrix transposed: the last two axes exchanged.
    #[track_caller]
    pub fn t(&self) -> Tensor {
        self.transpose(-2, -1)
    }

    /// Broadcast to `shape`: size-1 and missing leading axes are repeated, at no cost.
    #[track_caller]
    pub fn expand(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        if shape == self.shape() { self.clone() } else { self.view(View::Expand, shape) }
    }

    /// Along `axis`, every `step`-th element from `start` up to, not including, `end`, as Python's slices: negative
    /// numbers count from the end, bounds are clipped, a negative step runs backwards (`i64::MIN` as `end` then means
    /// "through the first").
    #[track_caller]
    pub fn slice(&self, axis: i32, start: i64, end: i64, step: i64) -> Tensor {
        assert!(step != 0, "slice: a step of 0 never arrives");
        let at = self.axis("slice", axis);
        let shape = self.shape();
        let size = shape[at] as i64;
        let wrap = |bound: i64| if bound < 0 { bound.saturating_add(size) } else { bound };
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let (start, end) = (wrap(start).clamp(low, high), wrap(end).clamp(low, high));
        let length = if step > 0 { (end - start + step - 1) / step } else { (start - end - step - 1) / -step };
        let length = length.max(0) as usize;
        let mut starts = vec![0; shape.rank()];
        let mut steps = vec![1; shape.rank()];
        (starts[at], steps[at]) = (start.max(0) as usize, step as isize);
        if length == shape[at] && step == 1 {
            return self.clone();
        }
        self.view(View::Slice(starts, steps), shape.with(at, length))
    }

    /// Along `axis`, `length` elements from `start`.
    ///
    /// # Panics
    /// If that reaches beyond the end.
    #[track_caller]
    pub fn narrow(&self, axis: i32, start: usize, length: usize) -> Tensor {
        let size = self.size(axis);
        assert!(
            start.checked_add(length).is_some_and(|end| end <= size),
            "narrow: {length} elements from {start} reach beyond axis {axis} of {}, which has {size}",
            self.shape()
        );
        self.slice(axis, start as i64, (start + length) as i64, 1)
    }

    /// The part at `index` along `axis`, without that axis; negative numbers count from the end.
    #[track_caller]
    pub fn at(&self, axis: i32, index: i64) -> Tensor {
        let size = self.size(axis) as i64;
        let position = if index < 0 { index + size } else { index };
        assert!((0..size).contains(&position), "at: index {index} is outside axis {axis} of {}", self.shape());
        self.narrow(axis, position as usize, 1).squeeze(axis)
    }

    /// Parts of the given sizes along `axis`, which they must fill.
    #[track_caller]
    pub fn split(&self, axis: i32, sizes: &[usize]) -> Vec<Tensor> {
        let (size, sum) = (self.size(axis), sizes.iter().sum::<usize>());
        assert!(sum == size, "split: parts {sizes:?} add up to {sum}, axis {axis} of {} has {size}", self.shape());
        let mut start = 0;
        let part = |&length: &usize| {
            start += length;
            self.narrow(axis, start - length, length)
        };
        sizes.iter().map(part).collect()
    }

    /// `count` parts of equal size along `axis`; the last is smaller if it does not divide.
    #[track_caller]
    pub fn chunk(&self, axis: i32, count: usize) -> Vec<Tensor> {
        assert!(count > 0, "chunk: at least one part is needed");
        let size = self.size(axis);
        let each = size.div_ceil(count).max(1);
        (0..size).step_by(each).map(|start| self.narrow(axis, start, each.min(size - start))).collect()
    }

    /// `axis` run backwards.
    #[track_caller]
    pub fn flip(&self, axis: i32) -> Tensor {
        let size = self.size(axis);
        if size < 2 { self.clone() } else { self.slice(axis, -1, i64::MIN, -1) }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let same = |x: &[Vec<f64>]| x[0].clone();
    let permute = vec![
        Case::new("transpose", &[&[2, 3]], |x| x[0].t())
            .reference(|x| [0, 3, 1, 4, 2, 5].iter().map(|&i| x[0][i]).collect()),
        Case::new("permute four", &[&[2, 3, 1, 4]], |x| x[0].permute([3, 0, 2, 1]).square()),
        Case::new("permute none", &[&[3, 0, 2]], |x| x[0].permute([2, 1, 0])),
    ];
    let reshape = vec![
        Case::new("reshape", &[&[2, 6]], |x| x[0].reshape([3, 4])).reference(same),
        Case::new("reshape of a transpose", &[&[2, 3]], |x| x[0].t().reshape([2, 3]))
            .reference(|x| [0, 3, 1, 4, 2, 5].iter().map(|&i| x[0][i]).collect()),
        Case::new("flatten", &[&[2, 3, 2]], |x| x[0].flatten_from(1)).reference(same),
        Case::new("squeeze and unsqueeze", &[&[2, 1, 3]], |x| x[0].squeeze(1).unsqueeze(-1)).reference(same),
        Case::new("reshape nothing", &[&[0, 3]], |x| x[0].reshape([7, 0])).reference(same),
    ];
    let expand = vec![
        Case::new("expand", &[&[3, 1]], |x| x[0].expand([2, 3, 2]))
            .reference(|x| [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2].iter().map(|&i| x[0][i]).collect()),
        Case::new("expand between axes", &[&[2, 1, 3]], |x| x[0].expand([x[0].size(0), 4, x[0].size(2)]).square()),
        Case::new("expand a scalar", &[&[]], |x| x[0].expand([2, 0])),
        Case::new("expand nothing", &[&[0, 1]], |x| x[0].expand([2, 0, 3])),
        Case::new("expand a view", &[&[4, 2]], |x| x[0].slice(0, 3, 0, -2).unsqueeze(0).expand([3, 2, 2])),
    ];
    let slice = vec![
        Case::new("slice", &[&[5, 2]], |x| x[0].slice(0, 1, 5, 2))
            .reference(|x| [2, 3, 6, 7].iter().map(|&i| x[0][i]).collect()),
        Case::new("slice backwards", &[&[5]], |x| x[0].slice(0, -1, i64::MIN, -2))
            .reference(|x| [4, 2, 0].iter().map(|&i| x[0][i]).collect()),
        Case::new("flip", &[&[2, 3]], |x| x[0].flip(1))
            .reference(|x| [2, 1, 0, 5, 4, 3].iter().map(|&i| x[0][i]).collect()),
        Case::new("slice of a flip of a transpose", &[&[4, 5]], |x| x[0].t().flip(0).slice(0, 1, 4, 2).square()),
        Case::new("an empty slice", &[&[4, 5]], |x| x[0].slice(1, 3, 1, 1)),
        Case::new("a slice of nothing", &[&[0, 5]], |x| x[0].slice(1, 1, 4, 2)),
        Case::new("a flip of one", &[&[1, 3]], |x| x[0].flip(0).slice(0, 0, 1, 3).square()),
        Case::new("split", &[&[2, 5]], |x| {
            let parts = x[0].split(1, &[2, 3]);
            parts[0].sum(..) * parts[1].square().sum(..)
        }),
        Case::new("chunk", &[&[7]], |x| x[0].chunk(0, 3).iter().map(|part| part.square().sum(..)).sum()),
    ];
    let detach = Case::new("detach", &[&[3]], |x| x[0].detach() * 1.0).discrete().reference(same);
    vec![
        Row { name: "permute", cases: permute },
        Row { name: "reshape", cases: reshape },
        Row { name: "expand", cases: expand },
        Row { name: "slice", cases: slice },
        Row { name: "detach", cases: vec![detach] },
    ]
}
