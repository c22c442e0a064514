//! State that a forward pass leaves behind: running statistics and the like. A cell holds a tensor; setting it records,
//! and the plan that evaluates the same graph writes it.

use crate::Tensor;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, Weak};

/// A named place for a tensor that calls update, such as batch norm's running mean.
///
/// Cloning makes an independent cell that shares the current value's memory.
#[derive(Debug)]
pub struct State {
    cell: Arc<Mutex<Tensor>>,
}

thread_local! {
    /// Cells of this thread whose tensors are not evaluated yet.
    static PENDING: RefCell<Vec<Weak<Mutex<Tensor>>>> = const { RefCell::new(Vec::new()) };
}

impl State {
    /// A cell that holds `value`.
    pub fn new(value: Tensor) -> State {
        State { cell: Arc::new(Mutex::new(value)) }
    }

    /// Another handle to the same cell: what a run that saves it keeps.
    pub fn handle(&self) -> State {
        State { cell: self.cell.clone() }
    }

    /// The tensor held now.
    pub fn get(&self) -> Tensor {
        lock(&self.cell).clone()
    }

    /// Replaces the tensor held. An unevaluated one is evaluated together with the next plan that shares its graph.
    pub fn set(&self, value: Tensor) {
        if !value.is_evaluated() {
            PENDING.with_borrow_mut(|pending| {
                if !pending.iter().any(|cell| std::ptr::eq(cell.as_ptr(), Arc::as_ptr(&self.cell))) {
                    pending.push(Arc::downgrade(&self.cell));
                }
            });
        }
        *lock(&self.cell) = value;
    }
}

impl Clone for State {
    fn clone(&self) -> State {
        State::new(self.get())
    }
}

fn lock(cell: &Mutex<Tensor>) -> std::sync::MutexGuard<'_, Tensor> {
    cell.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// The unevaluated tensors of this thread's cells.
pub(crate) fn pending() -> Vec<Tensor> {
    PENDING.with_borrow_mut(|pending| {
        let mut tensors = Vec::new();
        pending.retain(|cell| match cell.upgrade().map(|cell| lock(&cell).clone()) {
            Some(tensor) if !tensor.is_evaluated() => {
                tensors.push(tensor);
                true
            }
            _ => false,
        });
        tensors
    })
}
