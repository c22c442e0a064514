//! The recorded graph: nodes, what they hold before and after they are evaluated, and how deep graphs are let go.

use crate::operation::{KeyHasher, Meta, Operation};
use crate::{Tensor, Window, context};
use etude_kernels::Buffer;
use etude_kernels::tile::Scalar;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::Hash;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A map from nodes, by address.
pub(crate) type ByNode<T> = HashMap<*const Node, T, BuildHasherDefault<PointerHasher>>;

/// Pointers are well mixed by one multiplication.
#[derive(Default)]
pub(crate) struct PointerHasher(u64);

impl Hasher for PointerHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte as u64));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Data given from outside, or an evaluated result.
    Data,
    /// A number: an input of every plan, never part of its key.
    Scalar(Scalar),
    /// An operation kept in a table.
    Table(&'static dyn Operation),
    /// An operation with attributes of its own.
    Own(Arc<dyn Operation>),
}

impl Source {
    pub(crate) fn operation(&self) -> Option<&dyn Operation> {
        match self {
            Source::Table(operation) => Some(*operation),
            Source::Own(operation) => Some(&**operation),
            Source::Data | Source::Scalar(_) => None,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Source::Data => "data",
            Source::Scalar(_) => "scalar",
            _ => self.operation().map_or("data", |operation| operation.name()),
        }
    }
}

/// An evaluated output: a window on shared storage.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub storage: Arc<Buffer>,
    pub window: Window,
}

/// One recorded call. Tensors are handles to its outputs.
pub(crate) struct Node {
    pub source: Source,
    pub outputs: Outputs,
    /// A leaf whose gradient `backward()` collects.
    pub variable: bool,
    /// Whether a variable lies behind this node.
    pub requires_grad: bool,
    /// Recorded inside `no_grad`: the way back ends here.
    pub constant: bool,
    /// Hash of operation, attributes and outputs: this node's part of a plan's key.
    pub hash: u64,
    /// Counts up with every node a thread records: the order of the program.
    pub sequence: u64,
    pub location: &'static Location<'static>,
    pub scope: Option<Arc<str>>,
    /// How many unevaluated nodes lie one behind the other, and the bytes of their outputs.
    depth: AtomicU32,
    path_bytes: AtomicUsize,
    state: Mutex<State>,
}

/// Shapes and dtypes of a node's outputs; nearly always one.
pub(crate) enum Outputs {
    One(Meta),
    Many(Box<[Meta]>),
}

impl std::ops::Deref for Outputs {
    type Target = [Meta];
    fn deref(&self) -> &[Meta] {
        match self {
            Outputs::One(meta) => std::slice::from_ref(meta),
            Outputs::Many(metas) => metas,
        }
    }
}

impl From<Vec<Meta>> for Outputs {
    fn from(metas: Vec<Meta>) -> Outputs {
        match metas[..] {
            [meta] => Outputs::One(meta),
            _ => Outputs::Many(metas.into()),
        }
    }
}

/// The inputs of a node; nearly always at most three, which need no memory of their own.
pub(crate) type Inputs = SmallVec<[Tensor; 3]>;

/// What changes over a node's life.
#[derive(Default)]
pub(crate) struct State {
    /// What the operation reads; emptied when nobody needs the recipe any more.
    pub inputs: Inputs,
    /// The outputs' values once evaluated.
    pub values: Option<Vec<Value>>,
    /// Where `backward()` used this node up: its recipe goes as soon as it has a value.
    pub used_by: Option<&'static Location<'static>>,
}

impl Node {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// How many unevaluated nodes lie one behind the other here.
    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Ordering::Relaxed)
    }

    /// The bytes of the outputs of the unevaluated nodes that lie one behind the other here.
    pub(crate) fn path_bytes(&self) -> usize {
        self.path_bytes.load(Ordering::Relaxed)
    }

    /// Nothing unevaluated lies behind this node any more.
    pub(crate) fn settled(&self) {
        self.depth.store(0, Ordering::Relaxed);
        self.path_bytes.store(0, Ordering::Relaxed);
    }

    /// The value of output `output`, if it has been evaluated.
    pub(crate) fn value(&self, output: usize) -> Option<Value> {
        self.state().values.as_ref().map(|values| values[output].clone())
    }

    pub(crate) fn is_evaluated(&self) -> bool {
        matches!(self.source, Source::Scalar(_)) || self.state().values.is_some()
    }

    /// A leaf that holds `value`.
    pub(crate) fn leaf(meta: Meta, value: Value, variable: bool, location: &'static Location<'static>) -> Arc<Node> {
        let mut node = Node::blank(Source::Data, meta, location);
        (node.variable, node.requires_grad) = (variable, variable);
        node.state = Mutex::new(State { values: Some(vec![value]), ..State::default() });
        Arc::new(node)
    }

    /// A number.
    pub(crate) fn scalar(meta: Meta, value: Scalar, location: &'static Location<'static>) -> Arc<Node> {
        let mut node = Node::blank(Source::Scalar(value), meta, location);
        node.hash = KeyHasher::of(&meta, 1);
        Arc::new(node)
    }

    /// Stands for an input whose value nobody knows yet.
    pub(crate) fn placeholder(meta: Meta, location: &'static Location<'static>) -> Arc<Node> {
        Arc::new(Node::blank(Source::Data, meta, location))
    }

    /// A node without inputs or values.
    fn blank(source: Source, meta: Meta, location: &'static Location<'static>) -> Node {
        Node {
            source,
            outputs: Outputs::One(meta),
            variable: false,
            requires_grad: false,
            constant: false,
            hash: 0,
            sequence: context::next_in_sequence(),
            location,
            scope: None,
            depth: AtomicU32::new(0),
            path_bytes: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    /// A recorded operation.
    pub(crate) fn operation(
        source: Source,
        inputs: Inputs,
        outputs: Vec<Meta>,
        location: &'static Location<'static>,
    ) -> Arc<Node> {
        let mut hasher = KeyHasher::new(2);
        if let Some(operation) = source.operation() {
            operation.name().hash(&mut hasher);
            operation.attributes(&mut hasher);
        }
        outputs.hash(&mut hasher);
        let bytes: usize = outputs.iter().map(Meta::bytes).sum();
        let requires_grad =
            context::is_recording() && inputs.iter().any(|input| input.node.requires_grad && input.dtype().is_float());
        Arc::new(Node {
            source,
            outputs: outputs.into(),
            variable: false,
            requires_grad,
            constant: !context::is_recording(),
            hash: hasher.0,
            sequence: context::next_in_sequence(),
            location,
            scope: context::current_scope(),
            depth: AtomicU32::new(1 + inputs.iter().map(|input| input.node.depth()).max().unwrap_or(0)),
            path_bytes: AtomicUsize::new(bytes + inputs.iter().map(|input| input.node.path_bytes()).max().unwrap_or(0)),
            state: Mutex::new(State { inputs, ..State::default() }),
        })
    }

    /// `matmul at src/main.rs:3:5 (in fc1)`: how errors name a node.
    pub(crate) fn describe(&self) -> String {
        match &self.scope {
            Some(scope) => format!("{} at {} (in {scope})", self.source.name(), self.location),
            None => format!("{} at {}", self.source.name(), self.location),
        }
    }
}

impl Drop for Node {
    /// Lets the graph behind go one node at a time, so that a chain of a million calls does not overflow the stack.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(|poison| poison.into_inner());
        let mut pending = std::mem::take(&mut state.inputs);
        while let Some(tensor) = pending.pop() {
            if let Some(node) = Arc::into_inner(tensor.node) {
                pending.append(&mut node.state().inputs);
            }
        }
    }
}
