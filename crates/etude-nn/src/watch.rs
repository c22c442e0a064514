//! What layers gave while a model ran: the source of summaries and of cuts through a model.

use crate::Forward;
use crate::module::{Entry, Visit, Walk, walk};
use etude_core::{Error, Result, Tensor};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// One layer's run.
pub(crate) struct Seen {
    /// Where the layer is; empty if no walk came by.
    pub path: Arc<str>,
    /// Path and kind.
    pub text: Arc<str>,
    /// What it gave.
    pub output: Tensor,
    /// How many numbers its parameters hold.
    pub parameters: usize,
}

thread_local! {
    static SEEN: RefCell<Option<Vec<Seen>>> = const { RefCell::new(None) };
    static DRY: Cell<bool> = const { Cell::new(false) };
}

/// Whether a summary records a pass of zeros that is never computed, whatever the model is meant to read.
pub(crate) fn is_dry() -> bool {
    DRY.get()
}

/// As [`watch`], for a summary.
pub(crate) fn watch_dry(model: &(impl Forward + ?Sized), x: &Tensor) -> (Tensor, Vec<Seen>) {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DRY.set(false);
        }
    }
    DRY.set(true);
    let _leave = Leave;
    watch(model, x)
}

/// Notes a layer that ran, if this thread watches.
pub(crate) fn note(path: &Arc<str>, text: &Arc<str>, layer: &dyn Visit, output: &Tensor) {
    SEEN.with_borrow_mut(|seen| {
        if let Some(seen) = seen {
            let mut parameters = 0;
            let mut count = |_: &str, entry: Entry| {
                if let Entry::Param(param) = entry {
                    parameters += param.count();
                }
            };
            layer.visit_part(&mut Walk::of_part(&mut count));
            seen.push(Seen { path: path.clone(), text: text.clone(), output: output.clone(), parameters });
        }
    });
}

/// The output of `model` for `x`, and what its layers gave on the way, in the order they finished.
pub(crate) fn watch(model: &(impl Forward + ?Sized), x: &Tensor) -> (Tensor, Vec<Seen>) {
    /// Puts back what an outer watch had seen, also when a panic unwinds.
    struct Restore(Option<Vec<Seen>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SEEN.set(self.0.take());
        }
    }
    // Labels learn their paths in this model.
    walk(model, &mut |_, _| ());
    let _restore = Restore(SEEN.replace(Some(Vec::new())));
    let output = model.forward(x);
    (output, SEEN.take().unwrap_or_default())
}

/// See [`Forward::cut`].
pub(crate) fn cut(model: &(impl Forward + ?Sized), x: &Tensor, paths: &[&str]) -> Result<Vec<Tensor>> {
    let (_, seen) = watch(model, x);
    let find = |&path: &&str| match seen.iter().find(|layer| !path.is_empty() && *layer.path == *path) {
        Some(layer) => Ok(layer.output.clone()),
        None => {
            let mut known: Vec<&str> = Vec::new();
            for layer in seen.iter().filter(|layer| !layer.path.is_empty()) {
                if !known.contains(&&*layer.path) {
                    known.push(&layer.path);
                }
            }
            Err(Error::outside(format!("cut: no layer `{path}` ran; those that did are {}", known.join(", "))))
        }
    };
    paths.iter().map(find).collect()
}
