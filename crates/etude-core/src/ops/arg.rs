//! Where the extremes stand.

use crate::operation::{Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Tensor};
use etude_kernels::{Element, arg};
use std::hash::Hasher;

/// The position of the largest or smallest element along an axis; the first of equal ones, NaN before all.
#[derive(Debug)]
struct ArgExtreme {
    largest: bool,
    axis: usize,
}

impl Operation for ArgExtreme {
    fn name(&self) -> &'static str {
        if self.largest { "argmax" } else { "argmin" }
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axis);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let shape = inputs[0].shape;
        if shape[self.axis] == 0 {
            return Err(format!("axis {} is empty, and nothing has no extreme", self.axis));
        }
        Ok(vec![Meta::new(shape.without(self.axis), DType::I64)])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.find::<f32>(call),
            DType::F64 => self.find::<f64>(call),
            DType::I32 => self.find::<i32>(call),
            DType::I64 => self.find::<i64>(call),
            DType::U8 | DType::Bool => self.find::<u8>(call),
        }
        Ok(())
    }
}

impl ArgExtreme {
    fn find<T: Element>(&self, call: &mut Call) {
        let (x, shape) = (call.input::<T>(0), call.shape(0));
        let outer = shape[..self.axis].iter().product();
        let inner = shape[self.axis + 1..].iter().product();
        let find = if self.largest { arg::argmax::<T> } else { arg::argmin::<T> };
        find(outer, shape[self.axis], inner, x, call.output(0));
    }
}

impl Tensor {
    /// The position of the largest element along `axis`, which disappears, as `i64`: the first of equal ones.
    #[track_caller]
    pub fn argmax(&self, axis: i32) -> Tensor {
        Tensor::record(ArgExtreme { largest: true, axis: self.axis("argmax", axis) }, &[self])
    }

    /// The position of the smallest element along `axis`, which disappears, as `i64`: the first of equal ones.
    #[track_caller]
    pub fn argmin(&self, axis: i32) -> Tensor {
        Tensor::record(ArgExtreme { largest: false, axis: self.axis("argmin", axis) }, &[self])
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let position = |x: &[f64], better: fn(f64, f64) -> bool| {
        let mut best = 0;
        (1..x.len()).for_each(|i| best = if better(x[i], x[best]) { i } else { best });
        best as f64
    };
    let along_rows = move |x: &[Vec<f64>], better: fn(f64, f64) -> bool| -> Vec<f64> {
        x[0].chunks(4).map(|row| position(row, better)).collect()
    };
    vec![
        Row {
            name: "argmax",
            cases: vec![
                Case::new("argmax", &[&[3, 4]], |x| x[0].argmax(-1))
                    .discrete()
                    .reference(move |x| along_rows(x, |a, b| a > b)),
                Case::new("argmax of an inner axis", &[&[2, 3, 2]], |x| x[0].argmax(1)).discrete(),
            ],
        },
        Row {
            name: "argmin",
            cases: vec![
                Case::new("argmin", &[&[3, 4]], |x| x[0].argmin(1))
                    .discrete()
                    .reference(move |x| along_rows(x, |a, b| a < b)),
            ],
        },
    ]
}
