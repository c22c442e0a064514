//! Views become windows on storage, so that what is left is work. A copy is put in only where strides
//! cannot say a view, or where a kernel wants its input contiguous.

use super::graph::{Base, Graph, Item, Items, Located, Origin, Port, Work};
use crate::Window;
use crate::operation::{Kind, Meta};

/// Resolves every view of `graph`.
pub(crate) fn resolve(graph: &Graph) -> Items {
    let mut made = Maker { items: Vec::with_capacity(graph.nodes.len()) };
    let mut located: Vec<Vec<Located>> = Vec::with_capacity(graph.nodes.len());
    let mut donated = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<Located> =
            node.inputs.iter().map(|port| located[port.node as usize][port.output as usize]).collect();
        let places = match &node.origin {
            Origin::Leaf { index, window, donated: free } => {
                if donated.len() <= *index {
                    donated.resize(index + 1, false);
                }
                donated[*index] = *free;
                vec![Located { base: Base::Leaf(*index), window: *window, dtype: node.outputs[0].dtype }]
            }
            Origin::Scalar { index } => {
                let window = Window::contiguous(node.outputs[0].shape);
                vec![Located { base: Base::Scalar(*index), window, dtype: node.outputs[0].dtype }]
            }
            Origin::Operation(source) => {
                let operation = source.operation().expect("an operation node has an operation");
                match operation.kind() {
                    Kind::View(view) => {
                        let shape = &node.outputs[0].shape;
                        let window = view.apply(&inputs[0].window, shape);
                        let place = match window {
                            Some(window) => Located { window, ..inputs[0] },
                            None => {
                                let copy = made.copy(inputs[0], graph, at);
                                let window = view.apply(&copy.window, shape).expect("any view of a contiguous copy");
                                Located { window, ..copy }
                            }
                        };
                        vec![place]
                    }
                    Kind::Reduce(op, axes) => made.push(Work::Reduce(op, axes), inputs, graph, at),
                    Kind::Composite => unreachable!("composites are written out before"),
                    Kind::Kernel => {
                        let ready = inputs.iter().enumerate().map(|(i, &input)| {
                            let fits = match input.base {
                                Base::Scalar(_) => input.window.shape.rank() == 0,
                                _ => !operation.contiguous(i) || input.window.is_contiguous(),
                            };
                            if fits { input } else { made.copy(input, graph, at) }
                        });
                        let ready = ready.collect();
                        made.push(Work::Kernel(source.clone()), ready, graph, at)
                    }
                    kind => made.push(Work::Elementwise(kind), inputs, graph, at),
                }
            }
        };
        located.push(places);
    }
    let find = |port: &Port| located[port.node as usize][port.output as usize];
    let roots: Vec<Vec<Located>> = graph.roots.iter().map(|ports| ports.iter().map(find).collect()).collect();
    // A result must own its elements one after the other, or look at data that was there before.
    let roots = roots.into_iter().zip(&graph.roots);
    let roots = roots.map(|(places, ports)| {
        let own = |(place, port): (Located, &Port)| match place.base {
            Base::Leaf(index) if !donated[index] => place,
            Base::Item(item, output) if place.window == Window::contiguous(made.items[item].outputs[output].shape) => {
                place
            }
            _ => made.copy(place, graph, port.node as usize),
        };
        places.into_iter().zip(ports).map(own).collect()
    });
    let roots = roots.collect();
    Items { items: made.items, roots, later: Vec::new(), donated, constants: graph.constants.clone() }
}

struct Maker {
    items: Vec<Item>,
}

impl Maker {
    fn push(&mut self, work: Work, inputs: Vec<Located>, graph: &Graph, at: usize) -> Vec<Located> {
        let node = &graph.nodes[at];
        let item = self.items.len();
        self.items.push(Item {
            work,
            inputs,
            outputs: node.outputs.clone(),
            sequence: node.sequence,
            location: node.location,
            scope: node.scope.clone(),
        });
        let place = |(output, meta): (usize, &Meta)| Located {
            base: Base::Item(item, output),
            window: Window::contiguous(meta.shape),
            dtype: meta.dtype,
        };
        node.outputs.iter().enumerate().map(place).collect()
    }

    /// `input` copied into storage of its own. Asking twice gives the same copy.
    fn copy(&mut self, input: Located, graph: &Graph, at: usize) -> Located {
        let same = |item: &Item| matches!(item.work, Work::Copy) && item.inputs[0] == input;
        let item = self.items.iter().rposition(same).unwrap_or_else(|| {
            self.items.push(Item {
                work: Work::Copy,
                inputs: vec![input],
                outputs: vec![Meta::new(input.window.shape, input.dtype)],
                sequence: graph.nodes[at].sequence,
                location: graph.nodes[at].location,
                scope: graph.nodes[at].scope.clone(),
            });
            self.items.len() - 1
        });
        Located { base: Base::Item(item, 0), window: Window::contiguous(input.window.shape), dtype: input.dtype }
    }
}
