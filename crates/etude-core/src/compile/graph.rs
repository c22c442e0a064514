//! The graph a plan is made from: nodes by number, inputs before the nodes that use them.

use crate::node::Source;
use crate::operation::{Kind, Meta};
use crate::{DType, Shape, Window};
use etude_kernels::tile::Scalar;
use std::panic::Location;
use std::sync::Arc;

/// Output number `output` of node number `node`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Port {
    pub node: u32,
    pub output: u32,
}

/// Where a node's elements come from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Evaluated data, number `index`; the window's offset is given at each run. A donated leaf may be overwritten.
    Leaf { index: usize, window: Window, donated: bool },
    /// Scalar number `index`.
    Scalar { index: usize },
    /// The result of an operation.
    Operation(Source),
}

/// One node, as captured.
#[derive(Clone, Debug)]
pub(crate) struct GraphNode {
    pub origin: Origin,
    pub hash: u64,
    /// Where the node stood in the program that recorded it.
    pub sequence: u64,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Meta>,
    pub location: &'static Location<'static>,
    pub scope: Option<Arc<str>>,
}

/// What is compiled: nodes, and for each wanted node the ports that hold its outputs.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub nodes: Vec<GraphNode>,
    pub roots: Vec<Vec<Port>>,
    /// How many scalars come with each run. Numbers beyond them are the plan's own.
    pub scalars: usize,
    /// Numbers that are the same at each run: scalar `scalars + i` is `constants[i]`.
    pub constants: Vec<Scalar>,
}

impl Graph {
    /// How many leaves come with each run.
    pub fn leaves(&self) -> usize {
        let after = |node: &GraphNode| match node.origin {
            Origin::Leaf { index, .. } => index + 1,
            _ => 0,
        };
        self.nodes.iter().map(after).max().unwrap_or(0)
    }

    /// Which of the numbers that come with each run the graph reads.
    pub fn numbers(&self) -> Vec<usize> {
        let number = |node: &GraphNode| match node.origin {
            Origin::Scalar { index } if index < self.scalars => Some(index),
            _ => None,
        };
        self.nodes.iter().filter_map(number).collect()
    }
}

/// Storage that elements are read from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Base {
    Leaf(usize),
    Scalar(usize),
    /// Output `.1` of item `.0`.
    Item(usize, usize),
}

/// A window on storage.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Located {
    pub base: Base,
    pub window: Window,
    pub dtype: DType,
}

/// What an item does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Elementwise over the output's shape.
    Elementwise(Kind),
    /// The elements of the input, one after the other.
    Copy,
    /// A fold over the axes.
    Reduce(etude_kernels::tile::ReduceOp, Vec<usize>),
    /// A kernel of its own.
    Kernel(Source),
}

/// One piece of work: what is left of a node once views are only windows.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub work: Work,
    pub inputs: Vec<Located>,
    pub outputs: Vec<Meta>,
    pub sequence: u64,
    pub location: &'static Location<'static>,
    pub scope: Option<Arc<str>>,
}

impl Item {
    /// The shape an elementwise item or a copy runs over.
    pub fn iteration(&self) -> Option<Shape> {
        matches!(self.work, Work::Elementwise(_) | Work::Copy).then(|| self.outputs[0].shape)
    }

    pub fn name(&self) -> &'static str {
        match &self.work {
            Work::Elementwise(Kind::Unary(op)) => unary_name(*op),
            Work::Elementwise(Kind::Binary(op)) => binary_name(*op),
            Work::Elementwise(Kind::Select) => "select",
            Work::Elementwise(_) => "cast",
            Work::Copy => "copy",
            Work::Reduce(..) => "reduce",
            Work::Kernel(source) => source.name(),
        }
    }
}

fn unary_name(op: etude_kernels::tile::UnaryOp) -> &'static str {
    crate::ops::unary::name(op)
}

fn binary_name(op: etude_kernels::tile::BinaryOp) -> &'static str {
    crate::ops::binary::name(op)
}

/// The items, and where each wanted output lies.
#[derive(Clone, Debug)]
pub(crate) struct Items {
    pub items: Vec<Item>,
    pub roots: Vec<Vec<Located>>,
    /// Pairs of items of which the first had better run after the second, though it does not read it.
    pub later: Vec<(usize, usize)>,
    /// Which leaves may be overwritten.
    pub donated: Vec<bool>,
    /// Numbers the plan brings itself.
    pub constants: Vec<Scalar>,
}

/// A number's kind and bits: what makes two numbers one.
pub(crate) fn bits(value: Scalar) -> (bool, u64) {
    match value {
        Scalar::Float(value) => (true, value.to_bits()),
        Scalar::Int(value) => (false, value as u64),
    }
}
