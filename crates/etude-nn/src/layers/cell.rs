//! One step of a recurrent network.

use crate::init::Init;
use crate::{Module, Param, Walk};
use etude_core::Tensor;
use etude_core::ops::recurrent::{Nonlinearity, RecurrentWeights, gru, lstm, rnn};

/// Which cell.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Kind {
    Tanh,
    Relu,
    Lstm,
    Gru,
}

impl Kind {
    /// What labels and errors call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Tanh | Kind::Relu => "Rnn",
            Kind::Lstm => "Lstm",
            Kind::Gru => "Gru",
        }
    }

    fn gates(self) -> usize {
        match self {
            Kind::Tanh | Kind::Relu => 1,
            Kind::Lstm => 4,
            Kind::Gru => 3,
        }
    }

    /// How many tensors go from step to step.
    pub(super) fn states(self) -> usize {
        if self == Kind::Lstm { 2 } else { 1 }
    }
}

/// A cell's parameters: the gates' rows one after another.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// `[gates·H, inputs]`.
    weight_ih: Param,
    /// `[gates·H, H]`.
    weight_hh: Param,
    /// `[gates·H]`.
    bias_ih: Option<Param>,
    /// `[gates·H]`.
    bias_hh: Option<Param>,
}

impl Weights {
    pub(super) fn new(kind: Kind, inputs: usize, hidden: usize, biases: usize) -> Weights {
        let rows = kind.gates() * hidden;
        let draw = |shape: &[usize]| Param::new(Init::Fan(hidden).make(shape));
        Weights {
            weight_ih: draw(&[rows, inputs]),
            weight_hh: draw(&[rows, hidden]),
            bias_ih: (biases >= 1).then(|| draw(&[rows])),
            bias_hh: (biases >= 2).then(|| draw(&[rows])),
        }
    }

    /// Visits the parameters, `suffix` after each name.
    pub(super) fn visit_named(&self, walk: &mut Walk, suffix: &str) {
        walk.field(&format!("weight_ih{suffix}"), &self.weight_ih);
        walk.field(&format!("weight_hh{suffix}"), &self.weight_hh);
        walk.field(&format!("bias_ih{suffix}"), &self.bias_ih);
        walk.field(&format!("bias_hh{suffix}"), &self.bias_hh);
    }

    /// Along a sequence `[T, B, inputs]`, from the last step to the first if `reverse`: hidden states `[T, B, H]`, and
    /// the states after the last step taken.
    #[track_caller]
    pub(super) fn sequence(&self, kind: Kind, x: &Tensor, states: &[Tensor], reverse: bool) -> (Tensor, Vec<Tensor>) {
        let (input, hidden) = (self.weight_ih.value(), self.weight_hh.value());
        let [input_bias, hidden_bias] = [&self.bias_ih, &self.bias_hh].map(|bias| bias.as_ref().map(Param::value));
        let (input_bias, hidden_bias) = (input_bias.as_ref(), hidden_bias.as_ref());
        let weights = RecurrentWeights { input: &input, hidden: &hidden, input_bias, hidden_bias };
        let last = |y: &Tensor| y.at(0, if reverse { 0 } else { -1 });
        match kind {
            Kind::Tanh | Kind::Relu => {
                let function = if kind == Kind::Tanh { Nonlinearity::Tanh } else { Nonlinearity::Relu };
                let y = rnn(x, weights, &states[0], function, reverse);
                let after = last(&y);
                (y, vec![after])
            }
            Kind::Lstm => {
                let (y, cell) = lstm(x, weights, &states[0], &states[1], reverse);
                let after = last(&y);
                (y, vec![after, cell])
            }
            Kind::Gru => {
                let y = gru(x, weights, &states[0], reverse);
                let after = last(&y);
                (y, vec![after])
            }
        }
    }

    /// The states after one step with input `x` `[B, inputs]`.
    #[track_caller]
    fn step(&self, kind: Kind, x: &Tensor, states: &[Tensor]) -> Vec<Tensor> {
        let hidden = &states[0];
        let input = affine(x, &self.weight_ih, &self.bias_ih); // [B, gates·H]
        let own = affine(hidden, &self.weight_hh, &self.bias_hh); // [B, gates·H]
        match kind {
            Kind::Tanh => vec![(input + own).tanh()],
            Kind::Relu => vec![(input + own).relu()],
            Kind::Lstm => {
                let gates = (input + own).chunk(-1, 4);
                let [i, f, o] = [0, 1, 3].map(|gate: usize| gates[gate].sigmoid());
                let cell = f * &states[1] + i * gates[2].tanh();
                vec![o * cell.tanh(), cell]
            }
            Kind::Gru => {
                let (input, own) = (input.chunk(-1, 3), own.chunk(-1, 3));
                let [r, z] = [0, 1].map(|gate: usize| (&input[gate] + &own[gate]).sigmoid());
                let new = (&input[2] + r * &own[2]).tanh();
                vec![&new + z * (hidden - &new)]
            }
        }
    }
}

#[track_caller]
fn affine(x: &Tensor, weight: &Param, bias: &Option<Param>) -> Tensor {
    let y = x.matmul(&weight.value().t());
    match bias {
        Some(bias) => y + bias.value(),
        None => y,
    }
}

/// A cell with its own parameters.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    kind: Kind,
    weights: Weights,
}

impl Cell {
    pub(super) fn new(kind: Kind, inputs: usize, hidden: usize) -> Cell {
        Cell { kind, weights: Weights::new(kind, inputs, hidden, 2) }
    }

    #[track_caller]
    pub(super) fn step(&self, x: &Tensor, states: &[Tensor]) -> Vec<Tensor> {
        let needed = self.kind.states();
        assert!(states.len() == needed, "{}: {} states given, {needed} needed", self.kind.name(), states.len());
        self.weights.step(self.kind, x, states)
    }
}

impl Module for Cell {
    fn visit(&self, walk: &mut Walk) {
        self.weights.visit_named(walk, "");
    }
}
