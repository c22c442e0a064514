//! The plain recurrent layer's way from state to state.

use super::{Nonlinearity, by_time, check, joined, order, products_with_previous};
use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::matmul::{Operand, matmul};
use etude_kernels::{Buffer, Cost, Float, math};
use std::hash::{Hash, Hasher};

/// Inputs: the inputs' products `[T, B, H]`, hidden weights `[H, H]`, `h0[B, H]`. Output: `h[T, B, H]`.
#[derive(Debug)]
struct Rnn {
    nonlinearity: Nonlinearity,
    reverse: bool,
}

/// Inputs: hidden weights, `h0`, h, the gradient of h. Outputs: the gradients of the inputs' products and of `h0`.
#[derive(Debug)]
struct RnnGradient {
    nonlinearity: Nonlinearity,
    reverse: bool,
}

#[track_caller]
pub(super) fn record(
    sums: &Tensor,
    weights: &Tensor,
    h0: &Tensor,
    nonlinearity: Nonlinearity,
    reverse: bool,
) -> Tensor {
    Tensor::record(Rnn { nonlinearity, reverse }, &[sums, weights, h0])
}

impl Operation for Rnn {
    fn name(&self) -> &'static str {
        "rnn"
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (self.nonlinearity, self.reverse).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        check(inputs, 1, &inputs[2..])?;
        Ok(vec![inputs[0]])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [x, weights, h0] = inputs else { return None };
        let (mut h, mut all) = (h0.clone(), Vec::new());
        for t in order(x.size(0), self.reverse) {
            let sum = x.at(0, t as i64) + h.matmul(&weights.t());
            h = match self.nonlinearity {
                Nonlinearity::Tanh => sum.tanh(),
                Nonlinearity::Relu => sum.relu(),
            };
            all.push((t, h.clone()));
        }
        Some(vec![by_time(all)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let ([_, weights, h0], h) = (step.inputs, &step.outputs[0]) else { return Err("takes three inputs".into()) };
        let operation = RnnGradient { nonlinearity: self.nonlinearity, reverse: self.reverse };
        let found = Tensor::record_many(operation, &[weights, h0, h, &step.gradient(0)]);
        let by_weights = step.needed[1].then(|| products_with_previous(&found[0], h, h0, self.reverse));
        Ok(vec![Some(found[0].clone()), by_weights, Some(found[1].clone())])
    }

    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        super::cost(&inputs[1], &inputs[0], inputs, outputs)
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match (call.dtype(0), self.nonlinearity) {
            (DType::F32, Nonlinearity::Tanh) => self.fill::<f32>(call, math::tanh::<false>),
            (DType::F32, Nonlinearity::Relu) => self.fill::<f32>(call, |x| if x < 0.0 { 0.0 } else { x }),
            (_, Nonlinearity::Tanh) => self.fill::<f64>(call, f64::tanh),
            (_, Nonlinearity::Relu) => self.fill::<f64>(call, |x| if x < 0.0 { 0.0 } else { x }),
        }
        Ok(())
    }
}

impl Rnn {
    fn fill<T: Float>(&self, call: &mut Call, activate: impl Fn(T) -> T) {
        let shape = call.shape(0);
        let [steps, batch, hidden] = [shape[0], shape[1], shape[2]];
        let [x, weights, h0] = [0, 1, 2].map(|i| call.input::<T>(i));
        let (state, times, h) = (batch * hidden, order(steps, self.reverse), call.output::<T>(0));
        for (step, &t) in times.iter().enumerate() {
            // The state before lies next to this one, on the side the steps come from.
            let (low, high) = h.split_at_mut(if self.reverse { t + 1 } else { t } * state);
            let (before, now) = match self.reverse {
                false => (&low[low.len().saturating_sub(state)..], &mut high[..state]),
                true => (&high[..state.min(high.len())], &mut low[t * state..]),
            };
            let before = if step == 0 { h0 } else { before };
            matmul(batch, hidden, hidden, as_rows(before, hidden), as_columns(weights, hidden), now);
            now.iter_mut().zip(&x[t * state..]).for_each(|(now, &x)| *now = activate(*now + x));
        }
    }
}

/// A matrix of `width` columns as it lies in memory.
fn as_rows<T>(data: &[T], width: usize) -> Operand<'_, T> {
    Operand { data, offsets: &[0], row_stride: width as isize, column_stride: 1 }
}

/// The transpose of a matrix of `width` columns.
fn as_columns<T>(data: &[T], width: usize) -> Operand<'_, T> {
    Operand { data, offsets: &[0], row_stride: 1, column_stride: width as isize }
}

impl Operation for RnnGradient {
    fn name(&self) -> &'static str {
        "rnn_gradient"
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (self.nonlinearity, self.reverse).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![inputs[2], Meta::new(Shape::new(&inputs[2].shape[1..]), inputs[2].dtype)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [weights, h0, h, by_h] = inputs else { return None };
        let (mut carry, mut all) = (h0.zeros_like(), Vec::new());
        for &t in order(h.size(0), self.reverse).iter().rev() {
            let now = h.at(0, t as i64);
            let slope = match self.nonlinearity {
                Nonlinearity::Tanh => 1.0 - now.square(),
                Nonlinearity::Relu => now.greater(0.0).to(now.dtype()),
            };
            let by_sum = (by_h.at(0, t as i64) + carry) * slope;
            carry = by_sum.matmul(weights);
            all.push((t, by_sum));
        }
        Some(vec![by_time(all), carry])
    }

    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        super::cost(&inputs[0], &outputs[0], inputs, outputs)
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
        Ok(())
    }
}

impl RnnGradient {
    fn fill<T: Float>(&self, call: &mut Call) {
        let shape = call.shape(2);
        let [steps, batch, hidden] = [shape[0], shape[1], shape[2]];
        let [weights, _, h, by_h] = [0, 1, 2, 3].map(|i| call.input::<T>(i));
        let outputs: [&mut Buffer; 2] = call.outputs();
        let [by_x, carry] = outputs.map(|out| out.as_mut_slice::<T>());
        let state = batch * hidden;
        carry.fill(T::ZERO);
        for &t in order(steps, self.reverse).iter().rev() {
            let (now, h, by_h) =
                (&mut by_x[t * state..][..state], &h[t * state..][..state], &by_h[t * state..][..state]);
            for i in 0..state {
                let slope = match self.nonlinearity {
                    Nonlinearity::Tanh => T::ONE - h[i] * h[i],
                    Nonlinearity::Relu if h[i] > T::ZERO => T::ONE,
                    Nonlinearity::Relu => T::ZERO,
                };
                now[i] = (by_h[i] + carry[i]) * slope;
            }
            matmul(batch, hidden, hidden, as_rows(now, hidden), as_rows(weights, hidden), carry);
        }
    }
}

fn cases_of(nonlinearity: Nonlinearity) -> Vec<Case> {
    let case = |name: &str, steps: usize, batch: usize, hidden: usize, reverse: bool| {
        let shapes = [&[steps, batch, hidden][..], &[hidden, hidden], &[batch, hidden]];
        let run = move |x: &[Tensor]| record(&x[0], &x[1], &x[2], nonlinearity, reverse);
        Case::new(format!("{nonlinearity:?} {name}"), &shapes, run).domain(-1.0, 1.0)
    };
    let two_steps = move |x: &[Vec<f64>]| {
        let f = |v: f64| if nonlinearity == Nonlinearity::Tanh { v.tanh() } else { v.max(0.0) };
        let first = f(x[0][0] + x[1][0] * x[2][0]);
        vec![first, f(x[0][1] + x[1][0] * first)]
    };
    vec![
        case("one unit, two steps", 2, 1, 1, false).reference(two_steps),
        case("forwards", 3, 2, 3, false),
        case("backwards", 4, 1, 2, true),
        case("no batch", 2, 0, 3, false),
        Case::new(format!("{nonlinearity:?} less its meaning"), &[&[5, 3, 7], &[7, 7], &[3, 7]], move |x| {
            let operation = Rnn { nonlinearity, reverse: true };
            let meaning = operation.meaning(x).expect("rnn has a meaning").remove(0);
            record(&x[0], &x[1], &x[2], nonlinearity, true) - meaning
        })
        .domain(-0.5, 0.5)
        .discrete()
        .reference(|_| vec![0.0; 5 * 3 * 7]),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let mut cases = cases_of(Nonlinearity::Tanh);
    cases.extend(cases_of(Nonlinearity::Relu));
    let gradient = |nonlinearity: Nonlinearity| {
        let shapes: [&[usize]; 4] = [&[7, 7], &[3, 7], &[5, 3, 7], &[5, 3, 7]];
        let case = Case::new(format!("{nonlinearity:?} less its meaning"), &shapes, move |x| {
            let operation = || RnnGradient { nonlinearity, reverse: false };
            let inputs: Vec<&Tensor> = x.iter().collect();
            let meaning = operation().meaning(x).expect("it has a meaning");
            joined(&Tensor::record_many(operation(), &inputs)) - joined(&meaning)
        });
        case.domain(-0.5, 0.5).discrete().reference(|_| vec![0.0; 5 * 3 * 7 + 3 * 7])
    };
    let gradients = vec![gradient(Nonlinearity::Tanh), gradient(Nonlinearity::Relu)];
    vec![Row { name: "rnn", cases }, Row { name: "rnn_gradient", cases: gradients }]
}
