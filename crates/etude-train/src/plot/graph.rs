//! A recorded graph as boxes and arrows, from left to right.

use super::canvas::{Align, Canvas, Place, Rect};
use super::text::{self, Weight};
use super::{Colour, Page, series};
use crate::error::Result;
use etude_core::{Recorded, Tensor, recorded};
use std::collections::HashMap;

const BOX: (f32, f32) = (92.0, 38.0);
const GAP: (f32, f32) = (46.0, 16.0);
const MARGIN: f32 = 16.0;
const HEAD: f32 = 40.0;

/// What was recorded behind some tensors: data and numbers at the left, results at the right, each node in the first
/// column behind everything it reads.
#[derive(Clone, Debug)]
pub struct Graph {
    title: String,
    nodes: Vec<Recorded>,
    /// A name somebody gave the node, and the colour of its group.
    named: HashMap<usize, (String, usize)>,
    layout: Layout,
}

impl Graph {
    /// The graph behind the tensors of `named`. A name may stand on any node; its number picks the colour, so that, say,
    /// values and gradients are told apart.
    pub fn of(title: impl Into<String>, named: &[(&str, usize, &Tensor)]) -> Graph {
        let roots: Vec<&Tensor> = named.iter().map(|(.., tensor)| *tensor).collect();
        let (nodes, places) = recorded(&roots);
        let named = named.iter().zip(places).map(|((name, group, _), at)| (at, (name.to_string(), *group))).collect();
        let layout = Layout::new(&nodes);
        Graph { title: title.into(), nodes, named, layout }
    }

    pub(crate) fn wanted(&self) -> (f32, f32) {
        let tallest = self.layout.columns.iter().map(|members| self.layout.height(members)).fold(0.0, f32::max);
        let wide = self.layout.columns.len() as f32 * (BOX.0 + GAP.0) - GAP.0 + 2.0 * MARGIN;
        let title = text::width(&self.title, 15.0, Weight::Medium) + 2.0 * MARGIN;
        (wide.max(title), HEAD + tallest + 2.0 * MARGIN)
    }

    pub(crate) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        canvas.text((area.x + MARGIN, area.y + 26.0), Align::Start, &self.title, 15.0, Weight::Medium, Colour::INK);
        let Layout { slots, columns } = &self.layout;
        let mut places: Vec<Rect> = vec![Rect::new(0.0, 0.0, BOX.0, 0.0); slots.len()];
        let room = area.h - HEAD - 2.0 * MARGIN;
        for (column, members) in columns.iter().enumerate() {
            let mut y = area.y + HEAD + MARGIN + (room - self.layout.height(members)) / 2.0;
            for &slot in members {
                let x = area.x + MARGIN + column as f32 * (BOX.0 + GAP.0);
                places[slot] = Rect::new(x, y, BOX.0, slots[slot].height());
                y += places[slot].h + GAP.1;
            }
        }
        for (at, slot) in slots.iter().enumerate() {
            let (to, count) = (places[at], slot.inputs.len() as f32);
            for (i, &input) in slot.inputs.iter().enumerate() {
                let from = places[input];
                let end = (to.x, to.y + to.h * (i as f32 + 1.0) / (count + 1.0));
                arrow(canvas, (from.right(), from.y + from.h / 2.0), end, slot.node.is_some());
            }
            if slot.node.is_none() {
                canvas.line(&[(to.x, to.y), (to.right(), to.y)], 1.2, Colour::LINE, 1.0, None);
            }
        }
        for (slot, &place) in slots.iter().zip(&places) {
            if let Some(at) = slot.node {
                self.node(canvas, place, at, &self.nodes[at]);
            }
        }
    }

    fn node(&self, canvas: &mut Canvas, place: Rect, at: usize, node: &Recorded) {
        let named = self.named.get(&at);
        let colour = named.map_or(Colour::LINE, |(_, group)| series(*group));
        canvas.fill(place, Colour::WHITE.mix(colour, if named.is_some() { 0.14 } else { 0.08 }), 1.0);
        canvas.outline(place, 1.0, colour);
        let title = match named {
            Some((name, _)) if node.name == "data" => name.clone(),
            Some((name, _)) => format!("{name} = {}", node.name),
            None => node.name.clone(),
        };
        let middle = place.x + place.w / 2.0;
        let title = text::fitted(&title, 12.0, Weight::Medium, place.w - 8.0);
        canvas.text((middle, place.y + 16.0), Align::Middle, &title, 12.0, Weight::Medium, Colour::INK);
        let shape = text::fitted(&node.shape.to_string(), 10.0, Weight::Regular, place.w - 8.0);
        canvas.text((middle, place.y + 30.0), Align::Middle, &shape, 10.0, Weight::Regular, Colour::GREY);
    }

    /// The picture as the bytes of a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        Page::new(1).with(self.clone()).to_png()
    }
}

/// A place in a column: a node, or a line that passes on its way to a later column.
#[derive(Clone, Debug)]
struct Slot {
    node: Option<usize>,
    column: usize,
    inputs: Vec<usize>,
}

impl Slot {
    fn height(&self) -> f32 {
        if self.node.is_some() { BOX.1 } else { 0.0 }
    }
}

/// Slots by column; inside a column in the order of what they read, so that few lines cross.
#[derive(Clone, Debug)]
struct Layout {
    slots: Vec<Slot>,
    columns: Vec<Vec<usize>>,
}

impl Layout {
    fn new(nodes: &[Recorded]) -> Layout {
        let mut column = vec![0; nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            column[at] = node.inputs.iter().map(|&input| column[input] + 1).max().unwrap_or(0);
        }
        // What is only read late stands right before its first reader.
        for at in (0..nodes.len()).filter(|&at| nodes[at].inputs.is_empty()) {
            let readers = nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&at));
            column[at] = readers.map(|(reader, _)| column[reader] - 1).min().unwrap_or(0);
        }
        let slot = |at: usize| Slot { node: Some(at), column: column[at], inputs: Vec::new() };
        let mut slots: Vec<Slot> = (0..nodes.len()).map(slot).collect();
        // One line leaves a node, however many read it: the slots it passes, column by column.
        let mut passed: HashMap<(usize, usize), usize> = HashMap::new();
        for (at, node) in nodes.iter().enumerate() {
            for &input in &node.inputs {
                let mut from = input;
                for between in column[input] + 1..column[at] {
                    from = *passed.entry((input, between)).or_insert_with(|| {
                        slots.push(Slot { node: None, column: between, inputs: vec![from] });
                        slots.len() - 1
                    });
                }
                slots[at].inputs.push(from);
            }
        }
        let mut columns = vec![Vec::new(); slots.iter().map(|slot| slot.column + 1).max().unwrap_or(0)];
        slots.iter().enumerate().for_each(|(at, slot)| columns[slot.column].push(at));
        let mut row = vec![0.0f32; slots.len()];
        for members in &mut columns {
            let wanted = |at: usize| {
                let inputs = &slots[at].inputs;
                inputs.iter().map(|&input| row[input]).sum::<f32>() / inputs.len().max(1) as f32
            };
            let mut order: Vec<(f32, usize)> = members.iter().map(|&at| (wanted(at), at)).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            *members = order.into_iter().map(|(_, at)| at).collect();
            let half = (members.len() as f32 - 1.0) / 2.0;
            members.iter().enumerate().for_each(|(i, &at)| row[at] = i as f32 - half);
        }
        Layout { slots, columns }
    }

    fn height(&self, members: &[usize]) -> f32 {
        members.iter().map(|&at| self.slots[at].height() + GAP.1).sum::<f32>() - GAP.1
    }
}

/// A line that leaves and arrives level, with a head where it ends.
fn arrow(canvas: &mut Canvas, from: Place, to: Place, head: bool) {
    let bend = ((to.0 - from.0) / 2.0).min(60.0);
    let curve = |t: f32| -> Place {
        let s = 1.0 - t;
        let mix =
            |a: f32, b: f32, c: f32, d: f32| s * s * s * a + 3.0 * s * s * t * b + 3.0 * s * t * t * c + t * t * t * d;
        (mix(from.0, from.0 + bend, to.0 - bend, to.0), mix(from.1, from.1, to.1, to.1))
    };
    let line: Vec<Place> = (0..=24).map(|i| curve(i as f32 / 24.0)).collect();
    canvas.line(&line, 1.2, Colour::LINE, 1.0, None);
    for side in [-3.0, 3.0].into_iter().filter(|_| head) {
        canvas.line(&[(to.0 - 6.0, to.1 + side), (to.0, to.1)], 1.2, Colour::LINE, 1.0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etude_core::tensor;

    #[test]
    fn every_node_stands_behind_what_it_reads() {
        let (a, b) = (tensor([1.0, 2.0]).variable(), tensor([2.0, 2.0]));
        let c = &b * &a;
        let d = &c + 1.0;
        let gradients = d.sum(..).backward_keeping().unwrap();
        let slope = gradients.get(&a).unwrap();
        let graph = Graph::of("c = b·a, d = c + 1", &[("d", 0, &d), ("dd/da", 1, slope)]);
        let Layout { slots, columns } = &graph.layout;
        for slot in slots {
            assert!(slot.inputs.iter().all(|&input| slots[input].column + 1 == slot.column), "{slot:?}");
            let ends = slot.node.map_or(1, |at| graph.nodes[at].inputs.len());
            assert_eq!(slot.inputs.len(), ends);
        }
        assert_eq!(columns.iter().map(Vec::len).sum::<usize>(), slots.len());
        assert_eq!(&graph.to_png().unwrap()[1..4], b"PNG");
    }
}
