//! One step of a recurrent network.

use super::Activation;
use crate::init::Init;
use crate::{Module, Param, Walk};
use etude_core::Tensor;

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

    pub(super) fn hidden(&self) -> usize {
        self.weight_hh.shape()[1]
    }

    /// The input's share of the gates: `[…, inputs] → […, gates·H]`.
    #[track_caller]
    pub(super) fn from_input(&self, x: &Tensor) -> Tensor {
        affine(x, &self.weight_ih, &self.bias_ih)
    }

    /// The states after one step: `input` is [`Weights::from_input`] of it, `[B, gates·H]`.
    #[track_caller]
    pub(super) fn step(&self, kind: Kind, input: &Tensor, states: &[Tensor]) -> Vec<Tensor> {
        let hidden = &states[0];
        let own = affine(hidden, &self.weight_hh, &self.bias_hh); // [B, gates·H]
        match kind {
            Kind::Tanh => vec![(input + own).tanh()],
            Kind::Relu => vec![Activation::Relu.apply(&(input + own))],
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
        self.weights.step(self.kind, &self.weights.from_input(x), states)
    }
}

impl Module for Cell {
    fn visit(&self, walk: &mut Walk) {
        self.weights.visit_named(walk, "");
    }
}
