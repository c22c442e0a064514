//! Conversion between dtypes.

use crate::node::Source;
use crate::operation::{Backward, Kind, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Tensor};
use std::hash::Hasher;

#[derive(Debug)]
struct Cast(DType);

static TO: [Cast; 6] =
    [Cast(DType::F32), Cast(DType::F64), Cast(DType::I32), Cast(DType::I64), Cast(DType::U8), Cast(DType::Bool)];

impl Operation for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_u8(self.0 as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![Meta::new(inputs[0].shape, self.0)])
    }

    fn kind(&self) -> Kind {
        Kind::Cast
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        Ok(vec![Some(step.gradient(0).to(step.inputs[0].dtype()))])
    }
}

impl Tensor {
    /// Converts to `dtype` as Rust's `as` does; to bool, whatever is not 0 is true. The gradient is converted back.
    #[track_caller]
    pub fn to(&self, dtype: DType) -> Tensor {
        if self.dtype() == dtype {
            return self.clone();
        }
        Tensor::record_source(Source::Table(&TO[dtype as usize]), &[self])
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let through = |dtype: DType| {
        let case = Case::new(format!("to {dtype} and back"), &[&[3, 5]], move |x| x[0].to(dtype).to(DType::F64));
        case.domain(0.0, 9.0)
    };
    let whole = |dtype| through(dtype).discrete().reference(|x| x[0].iter().map(|v| v.trunc()).collect());
    let cases = vec![
        whole(DType::I32),
        whole(DType::I64),
        whole(DType::U8),
        through(DType::F32).discrete().reference(|x| x[0].iter().map(|&v| v as f32 as f64).collect()),
        through(DType::Bool).discrete().reference(|x| x[0].iter().map(|&v| (v != 0.0) as u8 as f64).collect()),
        Case::new("f64 from an f32 of it", &[&[0, 2]], |x| x[0].to(DType::F32).to(DType::F64)),
        Case::new("one number", &[&[1]], |x| x[0].to(DType::F64).square()),
    ];
    vec![Row { name: "cast", cases }]
}
