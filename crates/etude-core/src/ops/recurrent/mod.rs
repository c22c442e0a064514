//! Recurrent layers over whole sequences: one layer, one direction, every step in one operation.
//!
//! The products with the inputs do not wait for each other and are made for all steps at once; what is left to the
//! operations is the way from state to state. Everything is time-major, `[steps, batch, …]`.

mod gru;
mod lstm;
mod plain;

use crate::operation::{Meta, bytes};
use crate::ops::{Case, Row};
use crate::{PadMode, Shape, Tensor, cat, stack};
use etude_kernels::Cost;

/// The weights of one recurrent layer in one direction, in PyTorch's layout: G gates of H units, one gate after the other.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentWeights<'a> {
    /// From the inputs, `[G·H, inputs]`.
    pub input: &'a Tensor,
    /// From the state before, `[G·H, H]`.
    pub hidden: &'a Tensor,
    /// Added to the inputs' products, `[G·H]`.
    pub input_bias: Option<&'a Tensor>,
    /// Added to the state's products, `[G·H]`.
    pub hidden_bias: Option<&'a Tensor>,
}

/// What the plain recurrent layer passes its sums through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Nonlinearity {
    /// `tanh`.
    Tanh,
    /// `max(0, x)`.
    Relu,
}

/// The LSTM (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000) over `x[T, B, inputs]` from the
/// states `h0` and `c0`, `[B, H]`. Gives `h[T, B, H]` and the last `c[B, H]`. For each step, with the gates in the order
/// i, f, g, o of the weights:
///
/// ```text
/// [i f g o] = W·x + b + U·h + d
/// c ← σ(f)·c + σ(i)·tanh(g)
/// h ← σ(o)·tanh(c)
/// ```
///
/// `reverse` runs from the last step to the first; the state of step t stands at place t either way.
///
/// # Panics
/// If shapes do not fit, or if there is no step.
#[track_caller]
pub fn lstm(x: &Tensor, weights: RecurrentWeights, h0: &Tensor, c0: &Tensor, reverse: bool) -> (Tensor, Tensor) {
    let mut gates = weights.products("lstm", x, 4);
    if let Some(bias) = weights.hidden_bias {
        gates = gates + bias;
    }
    lstm::record(&gates, weights.hidden, h0, c0, reverse)
}

/// The GRU (Cho et al., 2014, in the form of cuDNN and PyTorch, with the reset gate after the product) over
/// `x[T, B, inputs]` from the state `h0[B, H]`. Gives `h[T, B, H]`. For each step, with the gates in the order r, z, n of
/// the weights:
///
/// ```text
/// [r z n] = W·x + b,  [r' z' n'] = U·h + d
/// n ← tanh(n + σ(r + r')·n')
/// h ← (1 − σ(z + z'))·n + σ(z + z')·h
/// ```
///
/// `reverse` as for [`lstm`].
///
/// # Panics
/// If shapes do not fit, or if there is no step.
#[track_caller]
pub fn gru(x: &Tensor, weights: RecurrentWeights, h0: &Tensor, reverse: bool) -> Tensor {
    let (gates, hidden) = (weights.products("gru", x, 3), weights.hidden.size(1));
    match weights.hidden_bias {
        // The last bias stands inside the reset gate's product; the others can be added before.
        Some(bias) => {
            let early = bias.narrow(0, 0, 2 * hidden).pad(&[(0, hidden)], PadMode::Constant(0.0));
            gru::record(&(gates + early), weights.hidden, &bias.narrow(0, 2 * hidden, hidden), h0, reverse)
        }
        None => {
            let none = Tensor::scalar(0.0, x.dtype()).expand(hidden);
            gru::record(&gates, weights.hidden, &none, h0, reverse)
        }
    }
}

/// The plain recurrent layer (Elman, 1990), `h ← f(W·x + b + U·h + d)`, over `x[T, B, inputs]` from the state `h0[B, H]`.
/// Gives `h[T, B, H]`. `reverse` as for [`lstm`].
///
/// # Panics
/// If shapes do not fit, or if there is no step.
#[track_caller]
pub fn rnn(x: &Tensor, weights: RecurrentWeights, h0: &Tensor, nonlinearity: Nonlinearity, reverse: bool) -> Tensor {
    let mut sums = weights.products("rnn", x, 1);
    if let Some(bias) = weights.hidden_bias {
        sums = sums + bias;
    }
    plain::record(&sums, weights.hidden, h0, nonlinearity, reverse)
}

impl RecurrentWeights<'_> {
    /// `W·x + b` for all steps at once, checked.
    #[track_caller]
    fn products(&self, name: &str, x: &Tensor, gates: usize) -> Tensor {
        let (inputs, input, hidden) = (x.shape(), self.input.shape(), self.hidden.shape());
        assert!(inputs.rank() == 3, "{name}: inputs must be [steps, batch, features], not {inputs}");
        let square = hidden.rank() == 2 && hidden[0] == gates * hidden[1];
        assert!(square, "{name}: hidden weights must be [{gates}·H, H], not {hidden}");
        let wanted = Shape::from([hidden[0], inputs[2]]);
        assert!(input == wanted, "{name}: inputs {inputs} want input weights {wanted}, not {input}");
        for bias in self.input_bias.iter().chain(&self.hidden_bias) {
            let given = bias.shape();
            assert!(given == [hidden[0]], "{name}: biases must be [{}], not {given}", hidden[0]);
        }
        let products = x.matmul(&self.input.t());
        if let Some(bias) = self.input_bias { products + bias } else { products }
    }
}

/// Steps, batch and units from the gates `[T, B, G·H]`, after the shapes of weights and states were checked.
fn check(inputs: &[Meta], gates: usize, states: &[Meta]) -> Result<[usize; 3], String> {
    let &[steps, batch, width] = &inputs[0].shape[..] else {
        return Err(format!("the gates' inputs must be [steps, batch, {gates}·units]"));
    };
    let hidden = width / gates;
    if width % gates != 0 || inputs[1].shape != [width, hidden] {
        return Err(format!("hidden weights must be [{width}, {hidden}]"));
    }
    if steps == 0 {
        return Err("at least one step is needed".into());
    }
    if states.iter().any(|state| state.shape != [batch, hidden]) {
        return Err(format!("states before the first step must be [{batch}, {hidden}]"));
    }
    let dtype = inputs[0].dtype;
    if !dtype.is_float() || inputs.iter().any(|input| input.dtype != dtype) {
        return Err("all must be of one floating dtype; convert with .to(…)".into());
    }
    Ok([steps, batch, hidden])
}

/// What going through the steps costs either way: one product with the hidden weights for each gate of each step.
fn cost(weights: &Meta, gates: &Meta, inputs: &[Meta], outputs: &[Meta]) -> Cost {
    let operations = 2 * gates.shape.count() * weights.shape[1];
    Cost { operations: operations as u64, bytes: bytes(inputs) + bytes(outputs) }
}

/// The places in time in the order in which they are worked on.
fn order(steps: usize, reverse: bool) -> Vec<usize> {
    if reverse { (0..steps).rev().collect() } else { (0..steps).collect() }
}

/// `Σ_t g[t]ᵀ · (the state before step t)`: the gradient of the hidden weights, `[G·H, H]`.
#[track_caller]
fn products_with_previous(g: &Tensor, h: &Tensor, h0: &Tensor, reverse: bool) -> Tensor {
    let (steps, first) = (g.size(0), h0.unsqueeze(0));
    let previous = match reverse {
        true => cat(&[h.narrow(0, 1, steps - 1), first], 0),
        false => cat(&[first, h.narrow(0, 0, steps - 1)], 0),
    };
    let lines = |x: &Tensor| x.reshape([steps * x.size(1), x.size(2)]);
    lines(g).t().matmul(&lines(&previous))
}

/// Steps kept under their place in time, as one tensor.
#[track_caller]
fn by_time(mut steps: Vec<(usize, Tensor)>) -> Tensor {
    steps.sort_by_key(|(t, _)| *t);
    stack(&steps.into_iter().map(|(_, step)| step).collect::<Vec<_>>(), 0)
}

/// Part `i` of `[B, G·H]`.
#[track_caller]
fn gate(gates: &Tensor, i: usize, hidden: usize) -> Tensor {
    gates.narrow(-1, i * hidden, hidden)
}

/// `x·(1 − x)`: how fast a gate moves, from where it stands.
#[track_caller]
fn slope(x: &Tensor) -> Tensor {
    x * (1.0 - x)
}

/// All of several tensors as one row, so that a case can look at every output.
fn joined(parts: &[Tensor]) -> Tensor {
    cat(&parts.iter().map(Tensor::flatten).collect::<Vec<_>>(), 0)
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = lstm::rows();
    rows.extend(gru::rows());
    rows.extend(plain::rows());
    // The free functions, with all weights.
    let weights = |x: &[Tensor], biases: bool| {
        let [_, input, hidden, input_bias, hidden_bias, ..] = x else { unreachable!("cases give seven inputs") };
        let biases = biases.then_some((input_bias, hidden_bias));
        let (input, hidden) = (input.clone(), hidden.clone());
        (input, hidden, biases.map(|(i, h)| (i.clone(), h.clone())))
    };
    let whole = move |x: &[Tensor], biases: bool, run: &dyn Fn(&[Tensor], RecurrentWeights) -> Tensor| {
        let (input, hidden, biases) = weights(x, biases);
        let (input_bias, hidden_bias) = (biases.as_ref().map(|b| &b.0), biases.as_ref().map(|b| &b.1));
        run(x, RecurrentWeights { input: &input, hidden: &hidden, input_bias, hidden_bias })
    };
    let shapes = |gates: usize| {
        [
            vec![3, 2, 3],
            vec![2 * gates, 3],
            vec![2 * gates, 2],
            vec![2 * gates],
            vec![2 * gates],
            vec![2, 2],
            vec![2, 2],
        ]
    };
    let case = |name: &str, gates: usize, biases: bool, run: fn(&[Tensor], RecurrentWeights) -> Tensor| {
        let shapes = shapes(gates);
        let shapes: Vec<&[usize]> = shapes.iter().map(|shape| &shape[..]).collect();
        Case::new(name, &shapes, move |x| whole(x, biases, &run)).domain(-1.0, 1.0)
    };
    let of_lstm = |x: &[Tensor], weights: RecurrentWeights| {
        let (h, c) = lstm(&x[0], weights, &x[5], &x[6], true);
        joined(&[h, c])
    };
    rows[0].cases.push(case("a whole layer", 4, true, of_lstm).once());
    for biases in [true, false] {
        let name = if biases { "a whole layer" } else { "a layer without biases" };
        rows[2].cases.push(case(name, 3, biases, |x, weights| gru(&x[0], weights, &x[5], false)).once());
    }
    let of_rnn = |x: &[Tensor], weights: RecurrentWeights| rnn(&x[0], weights, &x[5], Nonlinearity::Tanh, false);
    rows[4].cases.push(case("a whole layer", 1, true, of_rnn).once());
    rows
}
