//! Recurrent layers over whole sequences: plain, LSTM, GRU; stacked, in both directions.

use super::cell::{Cell, Kind, Weights};
use crate::{Forward, Label, Module, Walk};
use etude_core::{Shape, Tensor, cat, stack};

/// A recurrent layer before its parameters are drawn.
#[derive(Clone, Debug)]
pub struct RecurrentConfig<L> {
    kind: Kind,
    inputs: usize,
    hidden: usize,
    layers: usize,
    bidirectional: bool,
    batch_first: bool,
    biases: usize,
    dropout: f64,
    build: fn(Stack) -> L,
}

impl<L> RecurrentConfig<L> {
    fn new(kind: Kind, inputs: usize, hidden: usize, build: fn(Stack) -> L) -> RecurrentConfig<L> {
        let (layers, bidirectional, batch_first, biases, dropout) = (1, false, true, 2, 0.0);
        RecurrentConfig { kind, inputs, hidden, layers, bidirectional, batch_first, biases, dropout, build }
    }

    /// How many layers stand on each other; 1 unless said otherwise.
    pub fn layers(mut self, layers: usize) -> RecurrentConfig<L> {
        self.layers = layers.max(1);
        self
    }

    /// Reads the sequence from both ends (Schuster and Paliwal, 1997); the features of the two directions stand side by
    /// side.
    pub fn bidirectional(mut self, bidirectional: bool) -> RecurrentConfig<L> {
        self.bidirectional = bidirectional;
        self
    }

    /// Whether sequences are `[B, T, …]`, as they are unless said otherwise, or `[T, B, …]`.
    pub fn batch_first(mut self, batch_first: bool) -> RecurrentConfig<L> {
        self.batch_first = batch_first;
        self
    }

    /// Whether biases are added.
    pub fn bias(mut self, bias: bool) -> RecurrentConfig<L> {
        self.biases = if bias { 2 } else { 0 };
        self
    }

    /// One bias a gate instead of one for the input and one for the state, which for all but the GRU say the same
    /// twice: Keras's count of parameters.
    pub fn single_bias(mut self) -> RecurrentConfig<L> {
        self.biases = 1;
        self
    }

    /// The probability with which, in a training scope, what goes from one layer to the next is dropped.
    pub fn dropout(mut self, p: f64) -> RecurrentConfig<L> {
        self.dropout = p;
        self
    }

    /// Draws the parameters: uniform on ±`1/√hidden`, as PyTorch does.
    pub fn init(self) -> L {
        let RecurrentConfig { kind, inputs, hidden, layers, bidirectional, batch_first, biases, dropout, build } = self;
        let directions = if bidirectional { 2 } else { 1 };
        let cells = (0..layers * directions)
            .map(|i| Weights::new(kind, if i < directions { inputs } else { hidden * directions }, hidden, biases))
            .collect();
        let many = if layers > 1 { format!(" ×{layers}") } else { String::new() };
        let both = if bidirectional { ", both directions" } else { "" };
        let label = Label::new(format!("{} {inputs}→{hidden}{many}{both}", kind.name()));
        build(Stack { kind, cells, directions, batch_first, inputs, hidden, dropout, label })
    }
}

/// The layers of a recurrent network: for each layer one cell a direction.
#[derive(Clone, Debug)]
struct Stack {
    kind: Kind,
    cells: Vec<Weights>,
    directions: usize,
    batch_first: bool,
    inputs: usize,
    hidden: usize,
    dropout: f64,
    label: Label,
}

impl Module for Stack {
    /// PyTorch's names: `weight_ih_l0`, `bias_hh_l1_reverse`.
    fn visit(&self, walk: &mut Walk) {
        for (i, cell) in self.cells.iter().enumerate() {
            let reverse = if i % self.directions == 1 { "_reverse" } else { "" };
            cell.visit_named(walk, &format!("_l{}{reverse}", i / self.directions));
        }
        walk.field("label", &self.label);
    }
}

/// The state of all layers and directions: hidden, and for the LSTM the cell, each `[layers·directions, B, H]`.
type States = Vec<Tensor>;

impl Stack {
    /// The outputs of the last layer for `x`, and the states after the last step.
    #[track_caller]
    fn run(&self, owner: &dyn crate::module::Visit, x: &Tensor, start: Option<&[&Tensor]>) -> (Tensor, States) {
        let mut after = States::new();
        let y = self.label.call(owner, || {
            let (y, states) = self.layers(x, start);
            after = states;
            y
        });
        (y, after)
    }

    #[track_caller]
    fn layers(&self, x: &Tensor, start: Option<&[&Tensor]>) -> (Tensor, States) {
        let name = self.kind.name();
        let order = if self.batch_first { "[B, T, features]" } else { "[T, B, features]" };
        assert!(
            x.rank() == 3 && x.size(2) == self.inputs,
            "{name}: the input is {}, it must be {order} with {} features",
            x.shape(),
            self.inputs
        );
        let mut x = if self.batch_first { x.transpose(0, 1) } else { x.clone() }; // [T, B, features]
        let one = Shape::from([self.cells.len(), x.size(1), self.hidden]);
        for state in start.unwrap_or_default() {
            assert!(state.shape() == one, "{name}: the initial state is {}, it must be {one}", state.shape());
        }
        let zero = Tensor::scalar(0.0, x.dtype()).expand([x.size(1), self.hidden]);
        let mut after: Vec<States> = vec![Vec::new(); self.kind.states()];
        for (layer, cells) in self.cells.chunks(self.directions).enumerate() {
            if layer > 0 {
                x = x.dropout(self.dropout);
            }
            let mut outputs = Vec::new();
            for (direction, cell) in cells.iter().enumerate() {
                let index = (layer * self.directions + direction) as i64;
                let first = |state: usize| start.map_or_else(|| zero.clone(), |start| start[state].at(0, index));
                let first: States = (0..self.kind.states()).map(first).collect();
                let (y, last) = cell.sequence(self.kind, &x, &first, direction == 1);
                outputs.push(y);
                after.iter_mut().zip(last).for_each(|(all, one)| all.push(one));
            }
            x = if outputs.len() == 1 { outputs.remove(0) } else { cat(&outputs, -1) };
        }
        let y = if self.batch_first { x.transpose(0, 1) } else { x };
        (y, after.iter().map(|states| stack(states, 0)).collect())
    }
}

/// A plain recurrent layer (Elman, 1990): `hₜ = tanh(W·xₜ + b + U·hₜ₋₁ + c)`. `[B, T, inputs] → [B, T, hidden]`.
#[derive(Clone, Debug)]
pub struct Rnn(Stack);

/// Long short-term memory (Hochreiter and Schmidhuber, 1997; Gers et al., 2000), gates i, f, g, o in this order:
/// `c ← σ(f)·c + σ(i)·tanh(g)`, `h ← σ(o)·tanh(c)`. `[B, T, inputs] → [B, T, hidden]`.
///
/// ```
/// # use etude_nn::*;
/// let lstm = Lstm::new(3, 5).layers(2).init();
/// let (y, (h, c)) = lstm.forward_sequence(&etude_core::ones([4, 7, 3]), None);
/// assert_eq!((y.shape(), h.shape(), c.shape()), ([4, 7, 5].into(), [2, 4, 5].into(), [2, 4, 5].into()));
/// ```
#[derive(Clone, Debug)]
pub struct Lstm(Stack);

/// Gated recurrent unit (Cho et al., 2014), gates r, z, n in this order, the reset applied after the product as in cuDNN:
/// `n = tanh(xₙ + r·(U·h + c))`, `h ← (1−z)·n + z·h`. `[B, T, inputs] → [B, T, hidden]`.
#[derive(Clone, Debug)]
pub struct Gru(Stack);

impl Rnn {
    /// From `inputs` features to `hidden`; [`RecurrentConfig::init`] draws the parameters.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `Rnn::new(…).option(…).init()`
    pub fn new(inputs: usize, hidden: usize) -> RecurrentConfig<Rnn> {
        RecurrentConfig::new(Kind::Tanh, inputs, hidden, Rnn)
    }

    /// Outputs for all steps and the state after the last. `state` is `[layers·directions, B, hidden]`, 0 if none.
    #[track_caller]
    pub fn forward_sequence(&self, x: &Tensor, state: Option<&Tensor>) -> (Tensor, Tensor) {
        let (y, mut after) = self.0.run(self, x, state.map(|hidden| [hidden]).as_ref().map(<[_; 1]>::as_slice));
        (y, after.remove(0))
    }
}

impl RecurrentConfig<Rnn> {
    /// `max(x, 0)` in the place of `tanh` (Le et al., 2015).
    pub fn relu(mut self) -> RecurrentConfig<Rnn> {
        self.kind = Kind::Relu;
        self
    }
}

impl Lstm {
    /// From `inputs` features to `hidden`; [`RecurrentConfig::init`] draws the parameters.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `Lstm::new(…).option(…).init()`
    pub fn new(inputs: usize, hidden: usize) -> RecurrentConfig<Lstm> {
        RecurrentConfig::new(Kind::Lstm, inputs, hidden, Lstm)
    }

    /// Outputs for all steps, and hidden state and cell after the last. Each state is `[layers·directions, B, hidden]`,
    /// 0 if none.
    #[track_caller]
    pub fn forward_sequence(&self, x: &Tensor, state: Option<(&Tensor, &Tensor)>) -> (Tensor, (Tensor, Tensor)) {
        let state = state.map(|(hidden, cell)| [hidden, cell]);
        let (y, mut after) = self.0.run(self, x, state.as_ref().map(<[_; 2]>::as_slice));
        let cell = after.remove(1);
        (y, (after.remove(0), cell))
    }
}

impl Gru {
    /// From `inputs` features to `hidden`; [`RecurrentConfig::init`] draws the parameters.
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `Gru::new(…).option(…).init()`
    pub fn new(inputs: usize, hidden: usize) -> RecurrentConfig<Gru> {
        RecurrentConfig::new(Kind::Gru, inputs, hidden, Gru)
    }

    /// Outputs for all steps and the state after the last. `state` is `[layers·directions, B, hidden]`, 0 if none.
    #[track_caller]
    pub fn forward_sequence(&self, x: &Tensor, state: Option<&Tensor>) -> (Tensor, Tensor) {
        let (y, mut after) = self.0.run(self, x, state.map(|hidden| [hidden]).as_ref().map(<[_; 1]>::as_slice));
        (y, after.remove(0))
    }
}

/// The three layers are modules and maps from sequence to sequence alike.
macro_rules! layers {
    ($($layer:ident)*) => {$(
        impl Module for $layer {
            fn visit(&self, walk: &mut Walk) {
                self.0.visit(walk);
            }
        }

        impl Forward for $layer {
            #[track_caller]
            fn forward(&self, x: &Tensor) -> Tensor {
                self.0.run(self, x, None).0
            }
        }
    )*};
}

layers!(Rnn Lstm Gru);

/// One step of a recurrent network as a layer of its own, for loops written by hand; parameters `weight_ih`, `weight_hh`,
/// `bias_ih`, `bias_hh`.
#[derive(Clone, Debug)]
pub struct RecurrentCell(Cell);

impl RecurrentCell {
    /// A plain cell: `h ← tanh(W·x + b + U·h + c)`.
    pub fn rnn(inputs: usize, hidden: usize) -> RecurrentCell {
        RecurrentCell(Cell::new(Kind::Tanh, inputs, hidden))
    }

    /// An [`Lstm`]'s cell.
    pub fn lstm(inputs: usize, hidden: usize) -> RecurrentCell {
        RecurrentCell(Cell::new(Kind::Lstm, inputs, hidden))
    }

    /// A [`Gru`]'s cell.
    pub fn gru(inputs: usize, hidden: usize) -> RecurrentCell {
        RecurrentCell(Cell::new(Kind::Gru, inputs, hidden))
    }

    /// The states after `x` `[B, inputs]`: the hidden state, and for the LSTM the cell after it, each `[B, hidden]` as
    /// in `states`.
    ///
    /// # Panics
    /// If there are not as many states as the cell has: two for the LSTM, one for the others.
    #[track_caller]
    pub fn step(&self, x: &Tensor, states: &[Tensor]) -> Vec<Tensor> {
        self.0.step(x, states)
    }
}

impl Module for RecurrentCell {
    fn visit(&self, walk: &mut Walk) {
        self.0.visit(walk);
    }
}
