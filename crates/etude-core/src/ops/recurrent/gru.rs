//! The GRU's way from state to state.

use super::{by_time, check, gate, joined, order, products_with_previous, slope};
use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::{Buffer, Cost, Float, recurrent as kernel};
use std::hash::Hasher;

/// Inputs: the gates' inputs `[T, B, 3H]`, hidden weights `[3H, H]`, the hidden bias of the last gate `[H]`, `h0[B, H]`.
/// Outputs: `h[T, B, H]`; for the gradient r, z, n after their activations and n's product with its bias, `[T, B, 4H]`.
#[derive(Debug)]
struct Gru {
    reverse: bool,
}

/// Inputs: hidden weights, `h0`, h, the gates, the gradient of h. Outputs: the gradients of the gates' inputs, of the
/// products with the state before, and of `h0`; of the last only the part that goes past the gates, unless it is wanted.
#[derive(Debug)]
struct GruGradient {
    reverse: bool,
    of_h0: bool,
}

#[track_caller]
pub(super) fn record(gates: &Tensor, weights: &Tensor, bias: &Tensor, h0: &Tensor, reverse: bool) -> Tensor {
    Tensor::record_many(Gru { reverse }, &[gates, weights, bias, h0]).swap_remove(0)
}

impl Operation for Gru {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_u8(self.reverse as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let [steps, batch, hidden] = check(inputs, 3, &inputs[3..])?;
        if inputs[2].shape != [hidden] {
            return Err(format!("the last gate's hidden bias must be [{hidden}]"));
        }
        let dtype = inputs[0].dtype;
        let states = |width: usize| Meta::new(Shape::from([steps, batch, width]), dtype);
        Ok(vec![states(hidden), states(4 * hidden)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [x, weights, bias, h0] = inputs else { return None };
        let (hidden, mut h) = (h0.size(1), h0.clone());
        let (mut all_h, mut all_gates) = (Vec::new(), Vec::new());
        for t in order(x.size(0), self.reverse) {
            let (from_x, from_h) = (x.at(0, t as i64), h.matmul(&weights.t()));
            let [r, z] = [0, 1].map(|at| (gate(&from_x, at, hidden) + gate(&from_h, at, hidden)).sigmoid());
            let m = gate(&from_h, 2, hidden) + bias;
            let n = (gate(&from_x, 2, hidden) + &r * &m).tanh();
            h = (1.0 - &z) * &n + &z * h;
            all_h.push((t, h.clone()));
            all_gates.push((t, crate::cat(&[r, z, n, m], -1)));
        }
        Some(vec![by_time(all_h), by_time(all_gates)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        // Gates get gradients of their own only on the way to a second gradient.
        if step.gradients[1].is_some() {
            return crate::grad::through_meaning(self.meaning(step.inputs), step);
        }
        let [_, weights, _, h0] = step.inputs else { return Err("takes four inputs".into()) };
        let [h, gates] = step.outputs else { return Err("gives two outputs".into()) };
        let inputs = [weights, h0, h, gates, &step.gradient(0)];
        let found = Tensor::record_many(GruGradient { reverse: self.reverse, of_h0: step.needed[3] }, &inputs);
        let [by_x, by_products, by_h0] = &found[..] else { return Err("gives three gradients".into()) };
        let by_weights = step.needed[1].then(|| products_with_previous(by_products, h, h0, self.reverse));
        let by_bias = step.needed[2].then(|| gate(by_products, 2, h0.size(1)).sum([0, 1]));
        Ok(vec![Some(by_x.clone()), by_weights, by_bias, step.needed[3].then(|| by_h0.clone())])
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

impl Gru {
    fn fill<T: Float>(&self, call: &mut Call) {
        let states = call.output_meta(0).shape;
        let [steps, batch, hidden] = [states[0], states[1], states[2]];
        let [x, weights, bias, h0] = [0, 1, 2, 3].map(|i| call.input::<T>(i));
        let outputs: [&mut Buffer; 2] = call.outputs();
        let [h, gates] = outputs.map(|out| out.as_mut_slice::<T>());
        kernel::gru_forward(steps, batch, hidden, self.reverse, x, weights, bias, h0, h, gates);
    }
}

impl Operation for GruGradient {
    fn name(&self) -> &'static str {
        "gru_gradient"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_u8(self.reverse as u8);
        state.write_u8(self.of_h0 as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let h = inputs[2];
        let gates = Meta::new(h.shape.with(2, 3 * h.shape[2]), h.dtype);
        Ok(vec![gates, gates, inputs[1]])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [weights, h0, h, gates, by_h] = inputs else { return None };
        let (hidden, times) = (h0.size(1), order(h.size(0), self.reverse));
        let mut carry = h0.zeros_like();
        let (mut by_inputs, mut by_products) = (Vec::new(), Vec::new());
        for (step, &t) in times.iter().enumerate().rev() {
            let at = |x: &Tensor| x.at(0, t as i64);
            let before = if step == 0 { h0.clone() } else { h.at(0, times[step - 1] as i64) };
            let now = at(gates);
            let [r, z, n, m] = [0, 1, 2, 3].map(|part| gate(&now, part, hidden));
            let by_h = at(by_h) + carry;
            let by_n = &by_h * (1.0 - &z) * (1.0 - n.square());
            let (by_r, by_z) = (&by_n * m * slope(&r), &by_h * (before - n) * slope(&z));
            let from_h = crate::cat(&[by_r.clone(), by_z.clone(), &by_n * r], -1);
            carry = by_h * z;
            if step > 0 || self.of_h0 {
                carry = carry + from_h.matmul(weights);
            }
            by_inputs.push((t, crate::cat(&[by_r, by_z, by_n], -1)));
            by_products.push((t, from_h));
        }
        Some(vec![by_time(by_inputs), by_time(by_products), carry])
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

impl GruGradient {
    fn fill<T: Float>(&self, call: &mut Call) {
        let states = call.shape(2);
        let [steps, batch, hidden] = [states[0], states[1], states[2]];
        let [weights, h0, h, gates, by_h] = [0, 1, 2, 3, 4].map(|i| call.input::<T>(i));
        let outputs: [&mut Buffer; 3] = call.outputs();
        let [by_x, by_products, by_h0] = outputs.map(|out| out.as_mut_slice::<T>());
        let reverse = self.reverse;
        let of_h0 = self.of_h0;
        kernel::gru_backward(
            steps,
            batch,
            hidden,
            reverse,
            weights,
            h0,
            h,
            gates,
            by_h,
            of_h0,
            by_x,
            by_products,
            by_h0,
        );
    }
}

pub(super) fn rows() -> Vec<Row> {
    let case = |name: &str, steps: usize, batch: usize, hidden: usize, reverse: bool| {
        let shapes = [&[steps, batch, 3 * hidden][..], &[3 * hidden, hidden], &[hidden], &[batch, hidden]];
        let run = move |x: &[Tensor]| record(&x[0], &x[1], &x[2], &x[3], reverse);
        Case::new(name, &shapes, run).domain(-1.0, 1.0)
    };
    let step = |x: &[Vec<f64>]| {
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        let (h, from_h) = (x[3][0], |at: usize| x[1][at] * x[3][0]);
        let (r, z) = (sigmoid(x[0][0] + from_h(0)), sigmoid(x[0][1] + from_h(1)));
        let n = (x[0][2] + r * (from_h(2) + x[2][0])).tanh();
        vec![(1.0 - z) * n + z * h]
    };
    let cases = vec![
        case("one unit, one step", 1, 1, 1, false).reference(step),
        case("forwards", 3, 2, 2, false),
        case("backwards", 3, 1, 2, true),
        case("no batch", 2, 0, 3, false),
        Case::new("less its meaning", &[&[5, 3, 21], &[21, 7], &[7], &[3, 7]], |x| {
            let inputs: Vec<&Tensor> = x.iter().collect();
            let meaning = Gru { reverse: true }.meaning(x).expect("gru has a meaning");
            joined(&Tensor::record_many(Gru { reverse: true }, &inputs)) - joined(&meaning)
        })
        .discrete()
        .reference(|_| vec![0.0; 5 * 3 * 7 * 5]),
    ];
    let shapes: [&[usize]; 5] = [&[21, 7], &[3, 7], &[5, 3, 7], &[5, 3, 28], &[5, 3, 7]];
    let gradient = |name: &str, of_h0: bool| {
        let operation = move || GruGradient { reverse: false, of_h0 };
        let gradient = Case::new(name, &shapes, move |x| {
            let inputs: Vec<&Tensor> = x.iter().collect();
            let meaning = operation().meaning(x).expect("it has a meaning");
            joined(&Tensor::record_many(operation(), &inputs)) - joined(&meaning)
        });
        gradient.domain(-0.5, 0.5).discrete().reference(|_| vec![0.0; 5 * 3 * 42 + 3 * 7])
    };
    let gradients = vec![gradient("less its meaning", true), gradient("less its meaning, h0's not wanted", false)];
    vec![Row { name: "gru", cases }, Row { name: "gru_gradient", cases: gradients }]
}
