//! Products of picked rows, as of an embedding and the layer behind it. Where a table has far fewer rows than are picked of it,
//! the table is multiplied and rows of the product are picked, forwards and back. With E the table, `i` the numbers and
//! `S(G, i)` the sums of those rows of G that share a number:
//!
//! | as recorded | as computed | what it is |
//! |---|---|---|
//! | `E[i]·W` | `(E·W)[i]` | the layer |
//! | `Gᵀ·E[i]` | `S(G, i)ᵀ·E` | the gradient of its weights |
//! | `S(G·W, i)` | `S(G, i)·W` | the gradient of the table |
//!
//! The sums are those of the recorded form, added in another order; only a row that is not finite and that nobody picks
//! shows in the second. `ETUDE_EXACT=1` does without.

use super::graph::{Graph, GraphNode, Origin, Port};
use super::simplify::simplify;
use super::writer::{Writer, rewrite};
use crate::operation::{Kind, Operation, View};
use crate::ops::index::{AddRows, Take, add_rows};
use crate::ops::matmul::MatMul;
use crate::{Shape, Tensor};
use std::any::Any;

/// How many times as many rows must be picked as the table has.
const TIMES: usize = 2;
/// Columns of the table, at least: a product of fewer costs less than summing rows.
const DEPTH: usize = 32;

/// Rewrites the products of `graph` that gain by it.
pub(crate) fn rows(graph: Graph) -> Result<Graph, String> {
    let picks = |node: &GraphNode| operation::<Take>(node).is_some() || operation::<AddRows>(node).is_some();
    if crate::context::switches().exact || !graph.nodes.iter().any(picks) {
        return Ok(graph);
    }
    rewrite(graph, rewritten).map(simplify)
}

/// The outputs of `node` in its other form, if it gains by that.
fn rewritten(writer: &mut Writer, node: &GraphNode) -> Result<Option<Vec<Port>>, String> {
    let nodes = &writer.nodes;
    if let (Some(sum), [ids, source]) = (operation::<AddRows>(node), &node.inputs[..]) {
        let (product, moves) = rows_of(nodes, *source);
        let maker = &nodes[product.node as usize];
        let (from, size) = (shape(nodes, product), sum.size);
        let flat = from.rank() == 2 && node.outputs[0].shape.rank() == 2 && sum.axis == 0;
        if operation::<MatMul>(maker).is_none() || !flat || !gains(size, from) {
            return Ok(None);
        }
        // The numbers in the order of the product's rows.
        let inputs = [*ids, maker.inputs[0], maker.inputs[1]];
        return writer
            .record("index_add", &inputs, node, |inputs| {
                let [ids, g, w] = inputs else { return None };
                let ids = moves.iter().rev().fold(ids.clone(), |ids, step| step.back(&ids)).flatten();
                Some(vec![add_rows(0, size, &ids, g).matmul(w)])
            })
            .map(Some);
    }
    let (Some(_), [a, b]) = (operation::<MatMul>(node), &node.inputs[..]) else { return Ok(None) };
    if shape(nodes, *a).rank() != 2 || shape(nodes, *b).rank() != 2 {
        return Ok(None);
    }
    if let Some(Picked { table, ids, moves, select }) = picked(nodes, *a) {
        // A number out of range is reported where rows are picked.
        let at = GraphNode { outputs: node.outputs.clone(), ..nodes[select as usize].clone() };
        return writer
            .record("matmul", &[table, ids, *b], &at, |inputs| {
                let [table, ids, w] = inputs else { return None };
                Some(vec![table.matmul(w).index_select(0, &moved(ids, &moves))])
            })
            .map(Some);
    }
    // gᵀ on the left as `turned` gives it, and rows on the right; or the other way round.
    if let Some(Picked { table, ids, moves, .. }) = picked(nodes, *b) {
        let (g, is_turned) = turned(nodes, *a);
        return writer
            .record("matmul", &[table, ids, g], node, |inputs| {
                let [table, ids, g] = inputs else { return None };
                let g = if is_turned { g.clone() } else { g.t() };
                Some(vec![add_rows(0, table.size(0), &moved(ids, &moves), &g).t().matmul(table)])
            })
            .map(Some);
    }
    if let (rows, true) = turned(nodes, *a)
        && let Some(Picked { table, ids, moves, .. }) = picked(nodes, rows)
    {
        return writer
            .record("matmul", &[table, ids, *b], node, |inputs| {
                let [table, ids, g] = inputs else { return None };
                Some(vec![table.t().matmul(&add_rows(0, table.size(0), &moved(ids, &moves), g))])
            })
            .map(Some);
    }
    Ok(None)
}

/// Rows picked of a table, and how they were moved since.
struct Picked {
    table: Port,
    ids: Port,
    moves: Vec<Move>,
    /// The node that picks.
    select: u32,
}

/// What `port`, `[N, D]`, was picked from, if there is something to gain.
fn picked(nodes: &[GraphNode], port: Port) -> Option<Picked> {
    let (from, moves) = rows_of(nodes, port);
    let select = &nodes[from.node as usize];
    let (Take { axis: 0 }, &[table, ids]) = (operation::<Take>(select)?, &select.inputs[..]) else { return None };
    let size = shape(nodes, table);
    let fits = size.rank() == 2 && select.outputs[0].dtype.is_float() && gains(size[0], shape(nodes, port));
    fits.then_some(Picked { table, ids, moves, select: from.node })
}

/// Whether a table of `size` rows had better be multiplied than the rows `[N, D]` picked of it.
fn gains(size: usize, rows: Shape) -> bool {
    TIMES * size <= rows[0] && rows[1] >= DEPTH
}

/// One view that moves rows and leaves each as it is.
enum Move {
    /// The leading axes before and after.
    Reshape(Shape, Shape),
    /// Of the leading axes.
    Permute(Vec<usize>),
}

impl Move {
    /// The same move of a tensor that has the leading axes alone.
    fn along(&self, ids: &Tensor) -> Tensor {
        match self {
            Move::Reshape(_, to) => ids.reshape(*to),
            Move::Permute(order) => ids.permute(order.iter().map(|&axis| axis as i32).collect::<Vec<_>>()),
        }
    }

    /// The way back.
    fn back(&self, ids: &Tensor) -> Tensor {
        match self {
            Move::Reshape(from, _) => ids.reshape(*from),
            Move::Permute(order) => {
                let place = |axis| order.iter().position(|&from| from == axis).expect("a permutation") as i32;
                ids.permute((0..order.len()).map(place).collect::<Vec<_>>())
            }
        }
    }
}

/// Numbers as the rows lie that were picked by them and moved.
fn moved(ids: &Tensor, moves: &[Move]) -> Tensor {
    moves.iter().fold(ids.clone(), |ids, step| step.along(&ids)).flatten()
}

/// Where the rows of `port` come from, through views that only move them; the moves on the way from there.
fn rows_of(nodes: &[GraphNode], mut port: Port) -> (Port, Vec<Move>) {
    let mut moves = Vec::new();
    let lead = |shape: Shape| Shape::new(&shape[..shape.rank() - 1]);
    while let Origin::Operation(source) = &nodes[port.node as usize].origin
        && let Some(Kind::View(view)) = source.operation().map(|operation| operation.kind())
    {
        let node = &nodes[port.node as usize];
        let (from, to) = (shape(nodes, node.inputs[0]), node.outputs[0].shape);
        moves.push(match view {
            View::Reshape if from.rank() > 0 && to.rank() > 0 && from.last() == to.last() => {
                Move::Reshape(lead(from), lead(to))
            }
            View::Permute(order) if order.last() == Some(&(order.len() - 1)) => {
                Move::Permute(order[..order.len() - 1].to_vec())
            }
            _ => break,
        });
        port = node.inputs[0];
    }
    moves.reverse();
    (port, moves)
}

/// What `port` is the transpose of, and that it is; or the port itself.
fn turned(nodes: &[GraphNode], port: Port) -> (Port, bool) {
    let node = &nodes[port.node as usize];
    if let Origin::Operation(source) = &node.origin
        && source.operation().is_some_and(|operation| operation.kind() == Kind::View(View::Permute(vec![1, 0])))
    {
        return (node.inputs[0], true);
    }
    (port, false)
}

fn shape(nodes: &[GraphNode], port: Port) -> Shape {
    nodes[port.node as usize].outputs[port.output as usize].shape
}

/// The operation of `node`, if it is an `O`.
fn operation<O: Operation>(node: &GraphNode) -> Option<&O> {
    match &node.origin {
        Origin::Operation(source) => (source.operation()? as &dyn Any).downcast_ref::<O>(),
        _ => None,
    }
}
