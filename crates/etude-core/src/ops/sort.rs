//! Order along an axis: sorting, the largest few, the middle.

use crate::operation::{Call, Meta, Operation};
use crate::ops::index::around;
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor, arange};
use etude_kernels::{Element, sort};
use std::hash::Hasher;

/// The order that sorts along an axis.
#[derive(Debug)]
struct ArgSort {
    axis: usize,
    descending: bool,
}

impl Operation for ArgSort {
    fn name(&self) -> &'static str {
        "argsort"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
        state.write_u8(self.descending as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![Meta::new(inputs[0].shape, DType::I64)])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.sort::<f32>(call),
            DType::F64 => self.sort::<f64>(call),
            DType::I32 => self.sort::<i32>(call),
            DType::I64 => self.sort::<i64>(call),
            DType::U8 | DType::Bool => self.sort::<u8>(call),
        }
        Ok(())
    }
}

impl ArgSort {
    fn sort<T: Element>(&self, call: &mut Call) {
        let (outer, size, inner) = around(&call.shape(0), self.axis);
        sort::argsort(outer, size, inner, call.input::<T>(0), self.descending, call.output(0));
    }
}

impl Tensor {
    /// The positions, as `i64`, in the order that sorts `axis`. Equal elements keep their order; NaN comes last, both
    /// ascending and descending.
    #[track_caller]
    pub fn argsort(&self, axis: i32, descending: bool) -> Tensor {
        Tensor::record(ArgSort { axis: self.axis("argsort", axis), descending }, &[self])
    }

    /// The elements along `axis` in order, and the positions they came from (see [`Tensor::argsort`]). The gradient
    /// goes back to where each value came from.
    #[track_caller]
    pub fn sort(&self, axis: i32, descending: bool) -> (Tensor, Tensor) {
        let order = self.argsort(axis, descending);
        (self.gather(axis, &order), order)
    }

    /// The `k` largest (or smallest) elements along `axis` in order, best first, and their positions as `i64`.
    ///
    /// # Panics
    /// If the axis has fewer than `k` elements.
    #[track_caller]
    pub fn topk(&self, k: usize, axis: i32, largest: bool) -> (Tensor, Tensor) {
        let size = self.size(axis);
        assert!(k <= size, "topk: the best {k} of axis {axis} of {}, which has {size}", self.shape());
        let best = self.argsort(axis, largest).narrow(axis, 0, k);
        (self.gather(axis, &best), best)
    }

    /// The element that would stand at `position` if `axis`, which disappears, were sorted ascending, and where it
    /// stands, as `i64`.
    #[track_caller]
    pub fn kth(&self, position: usize, axis: i32) -> (Tensor, Tensor) {
        let size = self.size(axis);
        assert!(
            position < size,
            "kth: position {position} is beyond axis {axis} of {}, which has {size}",
            self.shape()
        );
        let place = self.argsort(axis, false).narrow(axis, position, 1);
        (self.gather(axis, &place).squeeze(axis), place.squeeze(axis))
    }

    /// The middle element along `axis`, which disappears, and where it stands; of an even number the lower of the two
    /// in the middle.
    #[track_caller]
    pub fn median(&self, axis: i32) -> (Tensor, Tensor) {
        let size = self.size(axis);
        assert!(size > 0, "median: axis {axis} of {} is empty", self.shape());
        self.kth((size - 1) / 2, axis)
    }

    /// The largest element along `axis`, which disappears, and the position of the first that is so large, as `i64`.
    /// The gradient goes to that one alone.
    #[track_caller]
    pub fn max_with_index(&self, axis: i32) -> (Tensor, Tensor) {
        let place = self.argmax(axis);
        (self.gather(axis, &place.unsqueeze(self.axis("max_with_index", axis) as i32)).squeeze(axis), place)
    }

    /// Hard max: 1 at the first largest element along `axis`, 0 everywhere else, in this tensor's dtype. No gradient
    /// passes; `hard + soft − soft.detach()` passes that of a softmax straight through.
    #[track_caller]
    pub fn hard_max(&self, axis: i32) -> Tensor {
        let (shape, at) = (self.shape(), self.axis("hard_max", axis));
        let line: Shape = (0..shape.rank()).map(|i| if i == at { shape[i] } else { 1 }).collect();
        let place = self.argmax(axis).unsqueeze(at as i32);
        place.equal(arange(shape[at]).reshape(line)).to(self.dtype())
    }
}

/// The stable order of `x`.
fn order(x: &[f64], descending: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| if descending { x[b].total_cmp(&x[a]) } else { x[a].total_cmp(&x[b]) });
    order
}

pub(crate) fn rows() -> Vec<Row> {
    let along = |descending: bool| {
        Case::new(format!("argsort, descending {descending}"), &[&[3, 7]], move |x| x[0].argsort(-1, descending))
            .discrete()
            .reference(move |x| x[0].chunks(7).flat_map(|x| order(x, descending)).map(|i| i as f64).collect())
    };
    let cases = vec![
        along(false),
        along(true),
        Case::new("argsort of equal ones", &[&[9]], |x| x[0].argsort(0, true))
            .dtype(DType::I64)
            .discrete()
            .reference(|x| order(&x[0], true).into_iter().map(|i| i as f64).collect()),
        Case::new("argsort of nothing", &[&[2, 0]], |x| x[0].argsort(1, false)).discrete(),
        Case::new("sort", &[&[2, 5]], |x| x[0].sort(1, false).0).reference(|x| {
            let sorted = |x: &[f64]| order(x, false).into_iter().map(|i| x[i]).collect::<Vec<f64>>();
            x[0].chunks(5).flat_map(sorted).collect()
        }),
        Case::new("sort nothing", &[&[2, 0]], |x| x[0].sort(1, false).0.square()),
        Case::new("sort an outer axis", &[&[4, 1, 2]], |x| x[0].sort(0, true).0.square()),
        Case::new("topk", &[&[3, 6]], |x| x[0].topk(2, -1, true).0).reference(|x| {
            let best = |x: &[f64]| order(x, true).into_iter().take(2).map(|i| x[i]).collect::<Vec<f64>>();
            x[0].chunks(6).flat_map(best).collect()
        }),
        Case::new("topk, none of them", &[&[3, 2]], |x| x[0].topk(0, 0, false).0),
        Case::new("median", &[&[4, 3]], |x| x[0].median(0).0.square()),
        Case::new("max with index", &[&[3, 4]], |x| x[0].max_with_index(0).0.square()),
        Case::new("max with index, last axis", &[&[3, 4]], |x| x[0].max_with_index(-1).0)
            .reference(|x| x[0].chunks(4).map(|row| row.iter().copied().fold(f64::MIN, f64::max)).collect()),
        Case::new("hard max", &[&[2, 3]], |x| x[0].hard_max(-1)).discrete().reference(|x| {
            x[0].chunks(3).flat_map(|row| [0, 1, 2].map(|i| (order(row, true)[0] == i) as u8 as f64)).collect()
        }),
    ];
    vec![Row { name: "argsort", cases }]
}

#[cfg(test)]
mod tests {
    use crate::tensor;

    #[test]
    fn hard_max_marks_the_first_largest_along_any_axis() {
        let x = tensor([[1.0, 5.0], [3.0, 5.0]]);
        assert_eq!(x.hard_max(1).to_vec::<f32>(), [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(x.hard_max(0).to_vec::<f32>(), [0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn equal_elements_keep_their_order_and_nan_comes_last() {
        let x = tensor([2.0, f64::NAN, 1.0, 2.0]);
        assert_eq!(x.argsort(0, false).to_vec::<i64>(), [2, 0, 3, 1]);
        assert_eq!(x.argsort(0, true).to_vec::<i64>(), [0, 3, 2, 1]);
    }

    #[test]
    fn the_median_of_an_even_number_is_the_lower_middle() {
        let (value, place) = tensor([4.0, 1.0, 3.0, 2.0]).median(0);
        assert_eq!((value.item(), place.item()), (2.0, 3.0));
    }
}
