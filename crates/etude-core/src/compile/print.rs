//! `ETUDE_TRACE=graph`: the graph before the first pass and after each, one line a node, in columns.

use super::fuse::Group;
use super::graph::{Base, Graph, Items, Located, Origin, Port, Work};
use crate::Window;
use crate::operation::Meta;
use std::fmt::Write;
use std::panic::Location;
use std::sync::Arc;

/// Prints stages as they come, if printing is wanted.
pub(super) struct Printer {
    wanted: bool,
    last: String,
}

impl Printer {
    pub fn new(wanted: bool) -> Printer {
        Printer { wanted, last: String::new() }
    }

    /// Prints what `text` says of the stage after pass `name`, or that the pass changed nothing.
    pub fn stage(&mut self, name: &str, text: impl FnOnce() -> String) {
        if !self.wanted {
            return;
        }
        let text = text();
        let lines = text.lines().count();
        match text == self.last {
            true => eprintln!("etude: {name}: as before"),
            false => eprint!("etude: {name}: {lines} lines\n{text}"),
        }
        self.last = text;
    }
}

/// What is known of a line: number, name, inputs, outputs, mark, place in the program.
type Line = [String; 6];

/// A graph's nodes: `7  matmul  3, 5  f32 [64, 10]  result  lenet.rs:12 in fc3`.
pub(super) fn graph(graph: &Graph) -> String {
    let mut wanted = vec![false; graph.nodes.len()];
    graph.roots.iter().flatten().for_each(|port| wanted[port.node as usize] = true);
    let input = |port: &Port| output(port.node as usize, port.output as usize);
    let lines = graph.nodes.iter().enumerate().map(|(number, node)| {
        let name = match &node.origin {
            Origin::Leaf { index, donated: false, .. } => format!("data {index}"),
            Origin::Leaf { index, donated: true, .. } => format!("data {index}, given away"),
            Origin::Scalar { index } => scalar(*index, graph.scalars, &graph.constants),
            Origin::Operation(source) => source.name().into(),
        };
        let inputs = node.inputs.iter().map(input).collect::<Vec<_>>().join(", ");
        [
            number.to_string(),
            name,
            inputs,
            metas(&node.outputs),
            mark(wanted[number]),
            place(node.location, &node.scope),
        ]
    });
    columns(lines.collect())
}

/// What is left once views are windows. `3[64, 10]` is item 3 seen through a window of that shape.
pub(super) fn items(items: &Items) -> String {
    let wanted = super::fuse::wanted(items);
    let lines = items.items.iter().enumerate().map(|(number, item)| {
        let inputs = item.inputs.iter().map(|input| located(items, input)).collect::<Vec<_>>().join(", ");
        let name = match &item.work {
            Work::Reduce(_, axes) => format!("{} over {axes:?}", item.name()),
            _ => item.name().into(),
        };
        let outputs = metas(&item.outputs);
        [number.to_string(), name, inputs, outputs, mark(wanted[number]), place(item.location, &item.scope)]
    });
    columns(lines.collect())
}

/// The groups in their order: the numbers and names of their items, and the shape of the last one.
pub(super) fn groups(items: &Items, groups: &[Group]) -> String {
    let lines = groups.iter().enumerate().map(|(number, group)| {
        let last = &items.items[*group.last().expect("groups are not empty")];
        let names = group.iter().map(|&at| items.items[at].name()).collect::<Vec<_>>().join(" ");
        let members = group.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        let place = place(last.location, &last.scope);
        [number.to_string(), names, members, metas(&last.outputs), String::new(), place]
    });
    columns(lines.collect())
}

fn output(node: usize, output: usize) -> String {
    if output == 0 { node.to_string() } else { format!("{node}.{output}") }
}

fn scalar(index: usize, given: usize, constants: &[etude_kernels::tile::Scalar]) -> String {
    use etude_kernels::tile::Scalar;
    match index.checked_sub(given).and_then(|own| constants.get(own)) {
        Some(Scalar::Float(value)) => format!("constant {value}"),
        Some(Scalar::Int(value)) => format!("constant {value}"),
        None => format!("number {index}"),
    }
}

fn located(items: &Items, input: &Located) -> String {
    let whole = |shape: &crate::Shape| input.window == Window::contiguous(*shape);
    let shape = input.window.shape;
    match input.base {
        Base::Leaf(index) if whole(&shape) => format!("data {index}"),
        Base::Leaf(index) => format!("data {index}{shape}"),
        Base::Scalar(index) => scalar(index, usize::MAX, &items.constants),
        Base::Item(item, port) if whole(&items.items[item].outputs[port].shape) => output(item, port),
        Base::Item(item, port) => format!("{}{shape}", output(item, port)),
    }
}

fn metas(metas: &[Meta]) -> String {
    metas.iter().map(|meta| format!("{} {}", meta.dtype, meta.shape)).collect::<Vec<_>>().join(", ")
}

fn mark(wanted: bool) -> String {
    if wanted { "result".into() } else { String::new() }
}

fn place(location: &Location, scope: &Option<Arc<str>>) -> String {
    let file = location.file().rsplit('/').next().unwrap_or_default();
    let scope = scope.as_ref().map_or(String::new(), |scope| format!(" in {scope}"));
    format!("{file}:{}{scope}", location.line())
}

/// Wider cells than this push the rest of their line to the right, not that of the others.
const WIDE: usize = 44;

/// The lines with each column as wide as its widest cell; numbers stand to the right.
fn columns(lines: Vec<Line>) -> String {
    let wide = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.filter(|&wide| wide <= WIDE).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..5).map(wide).collect();
    let mut text = String::new();
    for [number, name, inputs, outputs, mark, place] in &lines {
        let [a, b, c, d, e] = widths[..] else { unreachable!("five widths") };
        let gap = if e == 0 { "" } else { "  " };
        let line = format!("{number:>a$}  {name:<b$}  {inputs:<c$}  {outputs:<d$}  {mark:<e$}{gap}{place}");
        writeln!(text, "  {}", line.trim_end()).expect("text takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::{Tensor, arange, tensor};

    #[test]
    fn a_graph_is_printed_in_columns() {
        let x = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).t();
        let y: Tensor = (&x * 2.0).sum(1) + arange(3).to(crate::DType::F32);
        let graph = crate::runtime::capture::capture(&[y]).graph();
        let text = super::graph(&graph);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), graph.nodes.len());
        let column = |line: &&str| line.find("print.rs:").expect("a place");
        assert!(
            lines.iter().map(|line| line.chars().take(column(line)).count()).all(|at| at == column(&lines[0])),
            "{text}"
        );
        assert!(lines[0].contains("data 0") && lines[0].contains("f32 [3, 2]"), "{text}");
        assert!(lines.last().unwrap().contains("result"), "{text}");
        let items = super::super::views::resolve(&super::super::simplify::simplify(graph));
        let text = super::items(&items);
        assert!(text.contains("data 0[3, 2]") && text.contains("reduce"), "{text}");
        let groups = super::groups(&items, &super::super::fuse::fuse(&items));
        assert!(groups.lines().any(|line| line.contains("mul reduce")), "{groups}");
    }
}
