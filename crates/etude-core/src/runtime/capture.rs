//! Capture: the unevaluated graph behind some tensors as a flat list, its key, and what may be overwritten.

use super::state;
use crate::Tensor;
use crate::compile::graph::{Graph, GraphNode, Origin, Port};
use crate::node::{ByNode, Node, Source, Value};
use crate::operation::KeyHasher;
use etude_kernels::tile::Scalar;
use std::hash::Hasher;
use std::sync::Arc;

/// A captured graph.
pub(crate) struct Capture {
    pub nodes: Vec<Arc<Node>>,
    /// The inputs of node `i` are `ports[starts[i]..starts[i + 1]]`.
    ports: Vec<Port>,
    starts: Vec<usize>,
    /// What each node is to the plan: leaf or scalar number, or an operation.
    roles: Vec<Role>,
    pub leaves: Vec<Leaf>,
    pub scalars: Vec<Scalar>,
    /// The nodes whose outputs are kept.
    pub roots: Vec<u32>,
    pub key: u128,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Leaf(usize),
    Scalar(usize),
    Operation,
}

/// Evaluated data the plan reads.
pub(crate) struct Leaf {
    pub value: Value,
    pub node: u32,
    /// Nobody else holds the storage: the plan may overwrite it.
    pub donated: bool,
}

type Numbers = ByNode<u32>;

/// Room for the nodes of a small training step from the start.
const USUAL: usize = 256;

/// Captures the graph behind `tensors` and behind pending state that hangs on the same graph.
pub(crate) fn capture(tensors: &[Tensor]) -> Capture {
    let mut walker = Walker::new();
    tensors.iter().for_each(|tensor| walker.visit(&tensor.node));
    for pending in state::pending() {
        if walker.touches(&pending) {
            walker.visit(&pending.node);
        }
    }
    let requested: Vec<*const Node> = tensors.iter().map(|tensor| Arc::as_ptr(&tensor.node)).collect();
    walker.finish(&requested)
}

/// Captures the graph of `outputs` as a function of `inputs`, placeholders that become the first leaves. Nothing is given
/// away, and nothing but the outputs is kept.
pub(crate) fn capture_function(outputs: &[Tensor], inputs: &[Tensor]) -> Capture {
    let mut walker = Walker::new();
    for input in inputs {
        let storage = Arc::new(etude_kernels::Buffer::zeroed(0));
        let value = Value { storage, window: crate::Window::contiguous(input.shape()) };
        let leaf = Leaf { value, node: walker.capture.nodes.len() as u32, donated: false };
        walker.capture.leaves.push(leaf);
        walker.add(input.node.clone(), Role::Leaf(walker.capture.leaves.len() - 1));
    }
    outputs.iter().for_each(|tensor| walker.visit(&tensor.node));
    let roots = outputs.iter().map(|tensor| walker.numbers[&Arc::as_ptr(&tensor.node)]).collect();
    Capture { roots, ..walker.capture }
}

struct Walker {
    numbers: Numbers,
    capture: Capture,
    /// How often each node is an input inside the captured graph.
    references: Vec<usize>,
}

impl Walker {
    fn new() -> Walker {
        Walker {
            numbers: Numbers::with_capacity_and_hasher(USUAL, Default::default()),
            capture: Capture {
                nodes: Vec::with_capacity(USUAL),
                ports: Vec::with_capacity(2 * USUAL),
                starts: vec![0],
                roles: Vec::with_capacity(USUAL),
                leaves: Vec::new(),
                scalars: Vec::new(),
                roots: Vec::new(),
                key: 0,
            },
            references: Vec::with_capacity(USUAL),
        }
    }

    /// Numbers `root` and everything unevaluated behind it, inputs first.
    fn visit(&mut self, root: &Arc<Node>) {
        let mut stack: Vec<(Arc<Node>, bool)> = vec![(root.clone(), false)];
        while let Some((node, inputs_done)) = stack.pop() {
            if self.numbers.contains_key(&Arc::as_ptr(&node)) {
                continue;
            }
            if let Source::Scalar(scalar) = node.source {
                self.capture.scalars.push(scalar);
                self.add(node, Role::Scalar(self.capture.scalars.len() - 1));
                continue;
            }
            let state = node.state();
            if let Some(values) = &state.values {
                // Outputs of an evaluated node with several are separate leaves, one node each is enough for one.
                let first = self.capture.leaves.len();
                let number = self.capture.nodes.len() as u32;
                self.capture.leaves.extend(values.iter().map(|value| Leaf {
                    value: value.clone(),
                    node: number,
                    donated: false,
                }));
                drop(state);
                self.add(node, Role::Leaf(first));
                continue;
            }
            if inputs_done {
                assert!(
                    !matches!(node.source, Source::Data),
                    "a placeholder has no value: the meaning of an operation must not read its inputs"
                );
                for input in &state.inputs {
                    let from = self.numbers[&Arc::as_ptr(&input.node)];
                    self.references[from as usize] += 1;
                    self.capture.ports.push(Port { node: from, output: input.output });
                }
                drop(state);
                self.add(node, Role::Operation);
                continue;
            }
            // Above its inputs on the way down, so below them here.
            let place = stack.len();
            for input in state.inputs.iter().rev() {
                if !self.numbers.contains_key(&Arc::as_ptr(&input.node)) {
                    stack.push((input.node.clone(), false));
                }
            }
            drop(state);
            stack.insert(place, (node, true));
        }
    }

    fn add(&mut self, node: Arc<Node>, role: Role) {
        self.numbers.insert(Arc::as_ptr(&node), self.capture.nodes.len() as u32);
        self.capture.nodes.push(node);
        self.capture.roles.push(role);
        self.capture.starts.push(self.capture.ports.len());
        self.references.push(0);
    }

    /// Whether the unevaluated graph behind `tensor` shares work with what is captured already.
    fn touches(&self, tensor: &Tensor) -> bool {
        let mut stack = vec![tensor.node.clone()];
        let mut seen: Numbers = Numbers::default();
        while let Some(node) = stack.pop() {
            match self.numbers.get(&Arc::as_ptr(&node)) {
                Some(&number) if self.capture.roles[number as usize] == Role::Operation => return true,
                Some(_) => continue,
                None => (),
            }
            if node.is_evaluated() || seen.insert(Arc::as_ptr(&node), 0).is_some() {
                continue;
            }
            stack.extend(node.state().inputs.iter().map(|input| input.node.clone()));
        }
        false
    }

    fn finish(self, requested: &[*const Node]) -> Capture {
        let Walker { mut capture, references, .. } = self;
        let count = capture.nodes.len();
        // Nodes that somebody outside holds keep their results: they were promised to whoever holds them.
        let mut retained = vec![false; count];
        for at in 0..count {
            if capture.roles[at] != Role::Operation {
                continue;
            }
            let node = &capture.nodes[at];
            let held = Arc::strong_count(node) > references[at] + 1;
            if held || requested.contains(&Arc::as_ptr(node)) {
                capture.roots.push(at as u32);
                retained[at] = node.requires_grad && node.state().used_by.is_none();
            }
        }
        // A kept recipe needs everything behind it.
        for at in (0..count).rev() {
            if retained[at] {
                for port in &capture.ports[capture.starts[at]..capture.starts[at + 1]] {
                    retained[port.node as usize] = true;
                }
            }
        }
        for leaf in &mut capture.leaves {
            let at = leaf.node as usize;
            let alone = Arc::strong_count(&capture.nodes[at]) == references[at] + 1;
            // The node holds the storage once, this list once more.
            let unshared = Arc::strong_count(&leaf.value.storage) == 2;
            let whole = leaf.value.window.is_contiguous()
                && leaf.value.window.offset == 0
                && capture.nodes[at].outputs.len() == 1
                && leaf.value.storage.bytes() == capture.nodes[at].outputs[0].bytes();
            leaf.donated = alone && unshared && whole && !retained[at];
        }
        capture.key = capture.compute_key();
        capture
    }
}

impl Capture {
    fn compute_key(&self) -> u128 {
        let (mut a, mut b) = (KeyHasher::new(0x51), KeyHasher::new(0xa7));
        let mut feed = |word: u64| {
            a.write_u64(word);
            b.write_u64(word.rotate_left(17));
        };
        for at in 0..self.nodes.len() {
            match self.roles[at] {
                Role::Leaf(first) => {
                    for (leaf, meta) in self.leaves[first..].iter().zip(self.nodes[at].outputs.iter()) {
                        let window = (meta.dtype, leaf.value.window.shape, leaf.value.window.strides);
                        feed(KeyHasher::of(&window, 3 + leaf.donated as u64));
                    }
                }
                Role::Scalar(_) => feed(self.nodes[at].hash),
                Role::Operation => {
                    feed(self.nodes[at].hash);
                    for port in &self.ports[self.starts[at]..self.starts[at + 1]] {
                        feed((port.node as u64) << 32 | port.output as u64);
                    }
                }
            }
        }
        self.roots.iter().for_each(|&root| feed(root as u64 | 1 << 63));
        (a.finish() as u128) << 64 | b.finish() as u128
    }

    /// The graph as the compiler takes it.
    pub fn graph(&self) -> Graph {
        let mut nodes: Vec<GraphNode> = Vec::with_capacity(self.nodes.len());
        // An evaluated node with several outputs becomes several leaves.
        let mut places: Vec<Vec<Port>> = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            let plain = |origin, inputs, outputs| GraphNode {
                origin,
                hash: node.hash,
                sequence: node.sequence,
                inputs,
                outputs,
                location: node.location,
                scope: node.scope.clone(),
            };
            let next = nodes.len() as u32;
            match self.roles[at] {
                Role::Leaf(first) => {
                    let leaves = self.leaves[first..].iter().zip(node.outputs.iter()).enumerate();
                    places.push(leaves.clone().map(|(i, _)| Port { node: next + i as u32, output: 0 }).collect());
                    for (i, (leaf, meta)) in leaves {
                        let window = crate::Window { offset: 0, ..leaf.value.window };
                        let origin = Origin::Leaf { index: first + i, window, donated: leaf.donated };
                        nodes.push(plain(origin, Vec::new(), vec![*meta]));
                    }
                }
                Role::Scalar(index) => {
                    places.push(vec![Port { node: next, output: 0 }]);
                    nodes.push(plain(Origin::Scalar { index }, Vec::new(), node.outputs.to_vec()));
                }
                Role::Operation => {
                    let inputs = self.ports[self.starts[at]..self.starts[at + 1]].iter();
                    let inputs = inputs.map(|port| places[port.node as usize][port.output as usize]).collect();
                    let outputs = node.outputs.to_vec();
                    places.push((0..outputs.len()).map(|i| Port { node: next, output: i as u32 }).collect());
                    nodes.push(plain(Origin::Operation(node.source.clone()), inputs, outputs));
                }
            }
        }
        let roots = self.roots.iter().map(|&root| places[root as usize].clone()).collect();
        Graph { nodes, roots, scalars: self.scalars.len(), constants: Vec::new() }
    }

    /// Gives the nodes their values; recipes nobody needs any more are let go.
    pub fn finish(self, values: Vec<Vec<Value>>) {
        for (&root, values) in self.roots.iter().zip(values) {
            let node = &self.nodes[root as usize];
            let mut state = node.state();
            state.values = Some(values);
            node.settled();
            if !node.requires_grad || state.used_by.is_some() {
                let recipe = std::mem::take(&mut state.inputs);
                drop(state);
                drop(recipe);
            }
        }
    }
}
