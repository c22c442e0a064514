//! The LSTM's way from state to state.

use super::{by_time, check, gate, joined, order, products_with_previous, slope};
use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::{Buffer, Cost, Float, recurrent as kernel};
use std::hash::Hasher;

/// Inputs: the gates' inputs `[T, B, 4H]`, hidden weights `[4H, H]`, `h0` and `c0` `[B, H]`. Outputs: `h[T, B, H]`, the last
/// c `[B, H]`; for the gradient every c `[T, B, H]`, and the gates after their activations `[T, B, 4H]`.
#[derive(Debug)]
struct Lstm {
    reverse: bool,
}

/// Inputs: hidden weights, `h0`, `c0`, h, every c, the gates, the gradients of h and of the last c. Outputs: the gradients
/// of the gates' inputs and `c0`, and that of `h0` if it is wanted: it takes one product more than there are steps.
#[derive(Debug)]
struct LstmGradient {
    reverse: bool,
    of_h0: bool,
}

/// Gives h and the last c.
#[track_caller]
pub(super) fn record(gates: &Tensor, weights: &Tensor, h0: &Tensor, c0: &Tensor, reverse: bool) -> (Tensor, Tensor) {
    let mut outputs = Tensor::record_many(Lstm { reverse }, &[gates, weights, h0, c0]);
    let c = outputs.swap_remove(1);
    (outputs.swap_remove(0), c)
}

impl Operation for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_u8(self.reverse as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let [steps, batch, hidden] = check(inputs, 4, &inputs[2..])?;
        let dtype = inputs[0].dtype;
        let states = Meta::new(Shape::from([steps, batch, hidden]), dtype);
        Ok(vec![states, Meta::new(Shape::from([batch, hidden]), dtype), states, inputs[0]])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [x, weights, h0, c0] = inputs else { return None };
        let (hidden, mut h, mut c) = (h0.size(1), h0.clone(), c0.clone());
        let (mut all_h, mut all_c, mut all_gates) = (Vec::new(), Vec::new(), Vec::new());
        for t in order(x.size(0), self.reverse) {
            let sums = x.at(0, t as i64) + h.matmul(&weights.t());
            let [i, f, o] = [0, 1, 3].map(|at| gate(&sums, at, hidden).sigmoid());
            let g = gate(&sums, 2, hidden).tanh();
            c = &f * c + &i * &g;
            h = &o * c.tanh();
            all_h.push((t, h.clone()));
            all_c.push((t, c.clone()));
            all_gates.push((t, crate::cat(&[i, f, g, o], -1)));
        }
        Some(vec![by_time(all_h), c, by_time(all_c), by_time(all_gates)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        // States and gates get gradients of their own only on the way to a second gradient.
        if step.gradients[2].is_some() || step.gradients[3].is_some() {
            return crate::grad::through_meaning(self.meaning(step.inputs), step);
        }
        let [_, weights, h0, c0] = step.inputs else { return Err("takes four inputs".into()) };
        let [h, _, c, gates] = step.outputs else { return Err("gives four outputs".into()) };
        let inputs = [weights, h0, c0, h, c, gates, &step.gradient(0), &step.gradient(1)];
        let of_h0 = step.needed[2];
        let found = Tensor::record_many(LstmGradient { reverse: self.reverse, of_h0 }, &inputs);
        let [by_x, by_c0, by_h0 @ ..] = &found[..] else { return Err("gives two or three gradients".into()) };
        let by_weights = step.needed[1].then(|| products_with_previous(by_x, h, h0, self.reverse));
        Ok(vec![Some(by_x.clone()), by_weights, by_h0.first().cloned(), Some(by_c0.clone())])
    }

    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        super::cost(&inputs[1], &inputs[0], inputs, outputs)
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
        Ok(())
    }
}

impl Lstm {
    fn fill<T: Float>(&self, call: &mut Call) {
        let states = call.output_meta(0).shape;
        let [steps, batch, hidden] = [states[0], states[1], states[2]];
        let [x, weights, h0, c0] = [0, 1, 2, 3].map(|i| call.input::<T>(i));
        let outputs: [&mut Buffer; 4] = call.outputs();
        let [h, last, c, gates] = outputs.map(|out| out.as_mut_slice::<T>());
        kernel::lstm_forward(steps, batch, hidden, self.reverse, x, weights, h0, c0, h, c, gates);
        let at = if self.reverse { 0 } else { steps - 1 } * batch * hidden;
        last.copy_from_slice(&c[at..at + batch * hidden]);
    }
}

impl Operation for LstmGradient {
    fn name(&self) -> &'static str {
        "lstm_gradient"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_u8(self.reverse as u8);
        state.write_u8(self.of_h0 as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(with_h0(self.of_h0, inputs[5], inputs[2], inputs[1]))
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [weights, h0, c0, h, c, gates, by_h, by_last] = inputs else { return None };
        let (hidden, times) = (h0.size(1), order(h.size(0), self.reverse));
        let (mut from_later, mut carry) = (h0.zeros_like(), by_last.clone());
        let mut all = Vec::new();
        for (step, &t) in times.iter().enumerate().rev() {
            let at = |x: &Tensor| x.at(0, t as i64);
            let before = if step == 0 { c0.clone() } else { c.at(0, times[step - 1] as i64) };
            let now = at(gates);
            let [i, f, g, o] = [0, 1, 2, 3].map(|part| gate(&now, part, hidden));
            let (by_h, tanh) = (at(by_h) + from_later, at(c).tanh());
            let by_c = carry + &by_h * &o * (1.0 - tanh.square());
            let parts = [
                &by_c * &g * slope(&i),
                &by_c * before * slope(&f),
                &by_c * &i * (1.0 - g.square()),
                by_h * tanh * slope(&o),
            ];
            let by_gates = crate::cat(&parts, -1);
            carry = by_c * f;
            from_later = by_gates.matmul(weights);
            all.push((t, by_gates));
        }
        Some(with_h0(self.of_h0, by_time(all), carry, from_later))
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

/// The gradients in their order.
fn with_h0<T>(of_h0: bool, by_x: T, by_c0: T, by_h0: T) -> Vec<T> {
    if of_h0 { vec![by_x, by_c0, by_h0] } else { vec![by_x, by_c0] }
}

impl LstmGradient {
    fn fill<T: Float>(&self, call: &mut Call) {
        let states = call.shape(3);
        let [steps, batch, hidden] = [states[0], states[1], states[2]];
        let [weights, h0, c0, h, c, gates, by_h, by_last] = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| call.input::<T>(i));
        let (by_x, by_c0, by_h0) = if self.of_h0 {
            let [by_x, by_c0, by_h0] = call.outputs().map(|out: &mut Buffer| out.as_mut_slice::<T>());
            (by_x, by_c0, Some(by_h0))
        } else {
            let [by_x, by_c0] = call.outputs().map(|out: &mut Buffer| out.as_mut_slice::<T>());
            (by_x, by_c0, None)
        };
        kernel::lstm_backward(
            steps,
            batch,
            hidden,
            self.reverse,
            weights,
            h0,
            c0,
            h,
            c,
            gates,
            by_h,
            by_last,
            by_x,
            by_h0,
            by_c0,
        );
    }
}

pub(super) fn rows() -> Vec<Row> {
    let run = |reverse: bool| {
        move |x: &[Tensor]| {
            let (h, c) = record(&x[0], &x[1], &x[2], &x[3], reverse);
            joined(&[h, c])
        }
    };
    let case = |name: &str, steps: usize, batch: usize, hidden: usize, reverse: bool| {
        let shapes = [&[steps, batch, 4 * hidden][..], &[4 * hidden, hidden], &[batch, hidden], &[batch, hidden]];
        Case::new(name, &shapes, run(reverse)).domain(-1.0, 1.0)
    };
    let step = |x: &[Vec<f64>]| {
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        let sum = |at: usize| x[0][at] + x[1][at] * x[2][0];
        let c = sigmoid(sum(1)) * x[3][0] + sigmoid(sum(0)) * sum(2).tanh();
        vec![sigmoid(sum(3)) * c.tanh(), c]
    };
    let cases = vec![
        case("one unit, one step", 1, 1, 1, false).reference(step),
        case("forwards", 3, 2, 2, false),
        case("backwards", 3, 1, 2, true),
        case("no batch", 2, 0, 3, false),
        Case::new("less its meaning", &[&[5, 3, 28], &[28, 7], &[3, 7], &[3, 7]], |x| {
            let operation = || Lstm { reverse: true };
            let inputs: Vec<&Tensor> = x.iter().collect();
            let meaning = operation().meaning(x).expect("lstm has a meaning");
            joined(&Tensor::record_many(operation(), &inputs)) - joined(&meaning)
        })
        .discrete()
        .reference(|_| vec![0.0; 5 * 3 * 7 * 6 + 3 * 7]),
    ];
    let shapes: [&[usize]; 8] = [&[28, 7], &[3, 7], &[3, 7], &[5, 3, 7], &[5, 3, 7], &[5, 3, 28], &[5, 3, 7], &[3, 7]];
    let gradient = |name: &str, of_h0: bool| {
        let operation = move || LstmGradient { reverse: false, of_h0 };
        let less = move |x: &[Tensor]| {
            let inputs: Vec<&Tensor> = x.iter().collect();
            joined(&Tensor::record_many(operation(), &inputs))
                - joined(&operation().meaning(x).expect("it has a meaning"))
        };
        let zeros = vec![0.0; 5 * 3 * 28 + (1 + usize::from(of_h0)) * 3 * 7];
        Case::new(name, &shapes, less).domain(-0.5, 0.5).discrete().reference(move |_| zeros.clone())
    };
    let gradients = vec![gradient("less its meaning", true), gradient("without that of h0", false)];
    vec![Row { name: "lstm", cases }, Row { name: "lstm_gradient", cases: gradients }]
}
