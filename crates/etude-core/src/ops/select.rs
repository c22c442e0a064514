//! `where`: one of two values by a truth value.

use crate::node::Source;
use crate::operation::{Backward, Kind, Meta, Operation};
use crate::ops::binary::broadcast;
use crate::ops::{Case, Row};
use crate::{DType, Tensor};

#[derive(Debug)]
struct Select;

static SELECT: Select = Select;

impl Operation for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let shape = broadcast(inputs)?;
        if inputs[0].dtype != DType::Bool {
            return Err(format!("the condition must be bool, not {}; compare first", inputs[0].dtype));
        }
        if inputs[1].dtype != inputs[2].dtype {
            return Err(format!("the dtypes differ, {} against {}", inputs[1].dtype, inputs[2].dtype));
        }
        Ok(vec![Meta::new(shape, inputs[1].dtype)])
    }

    fn kind(&self) -> Kind {
        Kind::Select
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (condition, g) = (&step.inputs[0], step.gradient(0));
        let zero = Tensor::scalar(0.0, g.dtype());
        let by_a = step.needed[1].then(|| condition.select(&g, &zero).sum_to(step.inputs[1].shape()));
        let by_b = step.needed[2].then(|| condition.select(&zero, &g).sum_to(step.inputs[2].shape()));
        Ok(vec![None, by_a, by_b])
    }
}

impl Tensor {
    /// `a` where this bool tensor is true, `b` where it is false; all three broadcast. Also known as `where`.
    #[track_caller]
    pub fn select(&self, a: &Tensor, b: &Tensor) -> Tensor {
        Tensor::record_source(Source::Table(&SELECT), &[self, a, b])
    }

    /// This tensor with `value` wherever `mask` (bool, broadcast) is true.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Tensor {
        mask.select(&Tensor::scalar(value, self.dtype()), self)
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let case = |shapes: [&[usize]; 2]| {
        Case::new("select by the sign of a third", &shapes, |x| x[0].greater(0.1).select(&x[0], &x[1]))
    };
    let mut cases = vec![case([&[3, 4], &[3, 4]]), case([&[3, 1], &[4]]), case([&[0], &[1]]), case([&[], &[5]])];
    cases.push(Case::new("masked_fill", &[&[4, 3]], |x| x[0].masked_fill(&x[0].less(0.0), 7.0)));
    cases[0] = Case::new("select", &[&[7], &[7]], |x| x[0].greater(0.0).select(&x[0], &x[1]))
        .reference(|x| x[0].iter().zip(&x[1]).map(|(&a, &b)| if a > 0.0 { a } else { b }).collect());
    vec![Row { name: "select", cases }]
}
