//! Parameters: tensors that optimisers replace.

use etude_core::{DType, Shape, Tensor};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// A trainable tensor. Its value is a variable: gradients are collected for it until it is frozen.
///
/// Cloning makes an independent parameter that shares the value's memory until one of the two changes, so that a copy of
/// a model (a target network, an average of weights, the best so far) costs nothing until it differs.
#[derive(Debug)]
pub struct Param {
    cell: Arc<Cell>,
}

#[derive(Debug)]
struct Cell {
    value: Mutex<Tensor>,
    frozen: AtomicBool,
    name: OnceLock<Arc<str>>,
}

impl Param {
    /// A parameter that starts at `value`.
    pub fn new(value: Tensor) -> Param {
        let value = Mutex::new(value);
        Param { cell: Arc::new(Cell { value, frozen: AtomicBool::new(false), name: OnceLock::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Tensor> {
        self.cell.value.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// The current value, to compute with: a variable, or a constant if the parameter is frozen.
    #[track_caller]
    pub fn value(&self) -> Tensor {
        let mut value = self.lock();
        if self.is_frozen() {
            return value.detach();
        }
        if !value.is_variable() {
            *value = value.variable();
        }
        value.clone()
    }

    /// Replaces the value; the next [`Param::value`] sees it.
    ///
    /// # Panics
    /// If the shape differs.
    #[track_caller]
    pub fn set(&self, value: Tensor) {
        let mut held = self.lock();
        let (old, new) = (held.shape(), value.shape());
        assert!(old == new, "Param::set: {} has shape {old}, the new value {new}", self.name());
        *held = value;
    }

    /// Turns an evaluated value into a variable now, which lets go of what it was made by.
    pub(crate) fn settle(&self) {
        let mut value = self.lock();
        if !value.is_variable() {
            *value = value.variable();
        }
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> Shape {
        self.lock().shape()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.lock().dtype()
    }

    /// How many numbers.
    pub fn count(&self) -> usize {
        self.lock().count()
    }

    /// Keeps the value as it is: no gradient, no update.
    pub fn freeze(&self) {
        self.cell.frozen.store(true, Ordering::Relaxed);
    }

    /// Lets the value be trained again.
    pub fn unfreeze(&self) {
        self.cell.frozen.store(false, Ordering::Relaxed);
    }

    /// Whether the value is kept as it is.
    pub fn is_frozen(&self) -> bool {
        self.cell.frozen.load(Ordering::Relaxed)
    }

    /// The path this parameter was found under, or `a parameter`.
    pub fn name(&self) -> Arc<str> {
        self.cell.name.get().cloned().unwrap_or_else(|| "a parameter".into())
    }

    /// Remembers the path the parameter was first found under.
    pub(crate) fn set_name(&self, name: &str) {
        let _ = self.cell.name.set(name.into());
    }

    /// Another handle to the same parameter: what optimisers keep.
    pub fn handle(&self) -> Param {
        Param { cell: self.cell.clone() }
    }

    /// Whether two handles are to the same parameter.
    pub fn same(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }
}

impl Clone for Param {
    fn clone(&self) -> Param {
        let copy = Param::new(self.lock().detach());
        copy.cell.frozen.store(self.is_frozen(), Ordering::Relaxed);
        if let Some(name) = self.cell.name.get() {
            copy.set_name(name);
        }
        copy
    }
}
