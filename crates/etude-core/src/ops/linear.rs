//! A linear map with its bias as one recorded call: most of what a small model's step records.

use crate::Tensor;
use crate::node::Source;
use crate::operation::{Backward, Kind, Meta, Operation};
use crate::ops::{Case, Row};

/// `x·wᵀ + b` over the last axis of x; inputs are x `[…, inputs]`, w `[outputs, inputs]`, and b `[outputs]` if there is one.
/// A plan holds the product and the sum.
#[derive(Debug)]
struct Linear;

static LINEAR: Linear = Linear;

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (x, w) = (inputs[0], inputs[1]);
        if inputs.iter().any(|input| input.dtype != x.dtype) || !x.dtype.is_float() {
            return Err("all inputs must be of one floating dtype".into());
        }
        let (Some(&width), &[outputs, inputs_of_w]) = (x.shape.last(), &w.shape[..]) else {
            return Err("an input […, inputs] and a weight [outputs, inputs] are needed".into());
        };
        if width != inputs_of_w {
            return Err(format!("the weight takes {inputs_of_w} inputs, the last axis has {width}"));
        }
        if let Some(b) = inputs.get(2).filter(|b| b.shape != [outputs]) {
            return Err(format!("the bias must be [{outputs}], not {}", b.shape));
        }
        Ok(vec![Meta::new(x.shape.with(x.shape.rank() - 1, outputs), x.dtype)])
    }

    fn kind(&self) -> Kind {
        Kind::Composite
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let y = inputs[0].matmul(&inputs[1].t());
        Some(vec![if let Some(b) = inputs.get(2) { y + b } else { y }])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (x, w, g) = (&step.inputs[0], &step.inputs[1], step.gradient(0));
        let mut by = vec![step.needed[0].then(|| g.matmul(w))];
        // All rows are one axis for what is summed over them.
        let rows = |x: &Tensor| match x.shape().split_last() {
            Some((&width, outer)) if outer.len() != 1 => x.reshape([outer.iter().product(), width]),
            _ => x.clone(),
        };
        let wants = |input: usize| step.needed.get(input) == Some(&true);
        let g = if wants(1) || wants(2) { rows(&g) } else { g };
        by.push(wants(1).then(|| g.t().matmul(&rows(x))));
        if step.inputs.len() > 2 {
            by.push(wants(2).then(|| g.sum(0)));
        }
        Ok(by)
    }
}

impl Tensor {
    /// `x·wᵀ + b` over the last axis: `[…, inputs]` with weight `[outputs, inputs]` and bias `[outputs]` gives
    /// `[…, outputs]`.
    ///
    /// # Panics
    /// If weight or bias do not fit.
    #[track_caller]
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let source = Source::Table(&LINEAR);
        match bias {
            Some(bias) => Tensor::record_source(source, &[self, weight, bias]),
            None => Tensor::record_source(source, &[self, weight]),
        }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let case = |name: &'static str, x: &[usize], outputs: usize| {
        let inputs = *x.last().expect("an input axis");
        Case::new(name, &[x, &[outputs, inputs], &[outputs]], |x| x[0].linear(&x[1], Some(&x[2])))
            .against(|x| x[0].matmul(&x[1].t()) + &x[2])
    };
    let cases = vec![
        case("rows", &[3, 4], 2),
        case("several axes", &[2, 3, 4], 5),
        case("one row", &[4], 3),
        case("no rows", &[0, 4], 3),
        case("no inputs", &[2, 0], 3),
        case("one input, one output", &[2, 1], 1),
        Case::new("without bias", &[&[3, 4], &[2, 4]], |x| x[0].linear(&x[1], None).square())
            .against(|x| x[0].matmul(&x[1].t()).square()),
        Case::new("x as weight", &[&[3, 3], &[3]], |x| x[0].linear(&x[0], Some(&x[1]))),
    ];
    vec![Row { name: "linear", cases }]
}
