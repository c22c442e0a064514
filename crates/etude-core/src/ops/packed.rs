//! Products with a side that never changes: its elements lie in the order the kernel reads them in.

use crate::node::{Node, Value};
use crate::operation::{Call, Meta, Operation, bytes};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor, Window, cat, is_recording, zeros};
use etude_kernels::matmul::{PANEL, matmul_packed};
use etude_kernels::{Buffer, Cost};
use std::hash::Hasher;
use std::panic::Location;
use std::sync::{Arc, Mutex, Weak};

/// `x·w` with w in panels. Inputs are x `[m, k]` and the panels `[⌈columns / PANEL⌉, k, PANEL]`.
#[derive(Debug)]
struct PackedProduct {
    columns: usize,
}

/// `x·w` recorded for a `w` that never changes: what is made of `w` alone can be computed once.
#[track_caller]
pub(crate) fn product(x: &Tensor, w: &Tensor) -> Tensor {
    // What is shared is data, through which no gradient flows.
    let differentiated = w.requires_grad() && is_recording();
    let panels = if w.is_evaluated() && !differentiated { shared_panels(w) } else { panels(w) };
    Tensor::record_many(PackedProduct { columns: w.size(1) }, &[x, &panels]).swap_remove(0)
}

/// `w` `[k, columns]` in panels.
#[track_caller]
fn panels(w: &Tensor) -> Tensor {
    let (depth, columns) = (w.size(0), w.size(1));
    let panels = columns.div_ceil(PANEL);
    let missing = panels * PANEL - columns;
    let whole = match missing {
        0 => w.clone(),
        _ => cat(&[w.clone(), zeros([depth, missing]).to(w.dtype())], 1),
    };
    // As a line, so that a copy is made: views of what is there would be copied at each call.
    let line = whole.reshape([depth, panels, PANEL]).permute([1, 0, 2]).flatten();
    line.reshape([panels, depth, PANEL])
}

/// Panels that somebody keeps, and what they were made of.
struct Packed {
    source: Weak<Buffer>,
    window: Window,
    panels: Weak<Buffer>,
}

/// The panels in use: a model planned for many shapes packs each weight once.
static PACKED: Mutex<Vec<Packed>> = Mutex::new(Vec::new());

/// [`panels`] of data that is there: those that were made of it before, if somebody still has them. Whoever overwrites
/// data takes its buffer out of the shared handle, so what a handle leads to is what was packed.
#[track_caller]
fn shared_panels(w: &Tensor) -> Tensor {
    let value = w.evaluated();
    let mut all = PACKED.lock().unwrap_or_else(|poison| poison.into_inner());
    all.retain(|packed| packed.source.strong_count() > 0 && packed.panels.strong_count() > 0);
    let same =
        |packed: &&Packed| packed.source.as_ptr() == Arc::as_ptr(&value.storage) && packed.window == value.window;
    if let Some(storage) = all.iter().find(same).and_then(|packed| packed.panels.upgrade()) {
        let shape = Shape::from([w.size(1).div_ceil(PANEL), w.size(0), PANEL]);
        let window = Window::contiguous(shape);
        return Tensor::from_node(Node::leaf(
            Meta::new(shape, w.dtype()),
            Value { storage, window },
            false,
            Location::caller(),
        ));
    }
    let made = panels(w);
    if made.eval().is_ok() {
        let (source, panels) = (Arc::downgrade(&value.storage), made.evaluated());
        // A weight of one panel may be its own.
        if panels.window.offset == 0 && panels.window.is_contiguous() && !Arc::ptr_eq(&panels.storage, &value.storage) {
            all.push(Packed { source, window: value.window, panels: Arc::downgrade(&panels.storage) });
        }
    }
    made
}

impl Operation for PackedProduct {
    fn name(&self) -> &'static str {
        "matmul_packed"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.columns);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (x, panels) = (inputs[0], inputs[1]);
        let &[rows, depth] = &x.shape[..] else { return Err(format!("takes rows [m, k], not {}", x.shape)) };
        let wanted = Shape::from([self.columns.div_ceil(PANEL), depth, PANEL]);
        if panels.shape != wanted || panels.dtype != x.dtype || !x.dtype.is_float() {
            return Err(format!("takes {} panels {wanted}, not {} {}", x.dtype, panels.dtype, panels.shape));
        }
        Ok(vec![Meta::new(Shape::from([rows, self.columns]), x.dtype)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (x, panels) = (&inputs[0], &inputs[1]);
        let whole = panels.permute([1, 0, 2]).reshape([panels.size(1), panels.size(0) * PANEL]); // [k, panels·PANEL]
        Some(vec![x.matmul(&whole.narrow(1, 0, self.columns))])
    }

    fn takes_tail(&self) -> bool {
        true
    }

    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        let operations = 2 * inputs[0].shape.count() * self.columns;
        Cost { operations: operations as u64, bytes: bytes(inputs) + bytes(outputs) }
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        let sizes = [call.shape(0)[0], call.shape(0)[1], self.columns];
        match call.dtype(0) {
            DType::F32 => {
                let (x, panels, tail) = (call.input::<f32>(0), call.input(1), call.tail.take());
                let [out] = call.outputs();
                matmul_packed(sizes, x, panels, out, tail);
            }
            _ => {
                let (x, panels, tail) = (call.input::<f64>(0), call.input(1), call.tail.take());
                let [out] = call.outputs();
                matmul_packed(sizes, x, panels, out, tail);
            }
        }
        Ok(())
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let case = |name: &str, m: usize, k: usize, n: usize| {
        Case::new(name, &[&[m, k], &[k, n]], |x| product(&x[0], &x[1])).against(|x| x[0].matmul(&x[1]))
    };
    let cases = vec![
        case("one of each", 1, 1, 1),
        case("a part of a panel", 3, 4, 5),
        case("two panels", 2, 3, PANEL + 1),
        case("whole panels", 2, 2, 2 * PANEL),
        case("no rows", 0, 3, 2),
        case("no depth", 3, 0, 2),
        case("no columns", 3, 2, 0),
        case("rows in tasks", 27, 2, 3),
    ];
    vec![Row { name: "matmul_packed", cases }]
}
