//! Modules: anything with parameters inside, found by field path.

use crate::{Param, summary, watch};
use etude_core::{Result, State, Tensor, context};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Anything with parameters inside: layers, models, lists and options of them. Derive it; parameters are then found by
/// field path, the names PyTorch's state dict uses (`layer1.0.conv1.weight`).
pub trait Module {
    /// Visits every part under its name.
    fn visit(&self, walk: &mut Walk);

    /// Every parameter with its path, in field order. A parameter shared by two fields comes once, under the first.
    fn parameters(&self) -> Vec<(String, Param)> {
        let mut found: Vec<(String, Param)> = Vec::new();
        walk(self, &mut |path, entry| {
            if let Entry::Param(param) = entry
                && !found.iter().any(|(_, known)| known.same(param))
            {
                param.set_name(path);
                found.push((path.to_string(), param.handle()));
            }
        });
        found
    }

    /// Every parameter and every state tensor with its path: what a checkpoint of the model holds.
    fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut found = Vec::new();
        walk(self, &mut |path, entry| {
            let tensor = match entry {
                Entry::Param(param) => param.value().detach(),
                Entry::State(state) => state.get(),
            };
            found.push((path.to_string(), tensor));
        });
        found
    }

    /// How many numbers the parameters hold, frozen ones included.
    fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, param)| param.count()).sum()
    }

    /// Keeps every parameter as it is; see [`Param::freeze`].
    fn freeze(&self) {
        self.parameters().iter().for_each(|(_, param)| param.freeze());
    }

    /// Lets every parameter be trained again.
    fn unfreeze(&self) {
        self.parameters().iter().for_each(|(_, param)| param.unfreeze());
    }

    /// Copies every parameter and state tensor from `other`, a module of the same structure. Memory is shared until one
    /// of the two changes.
    fn copy_from(&self, other: &Self) -> Result<()>
    where
        Self: Sized,
    {
        let tensors: HashMap<String, Tensor> = other.tensors().into_iter().collect();
        crate::weights::assign(self, tensors, &crate::LoadOptions::default(), "the other module")
    }

    /// Writes every parameter and state tensor to a safetensors file.
    fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()>
    where
        Self: Sized,
    {
        crate::weights::write_tensors(path.as_ref(), &self.tensors())
    }

    /// Reads every parameter and state tensor from a safetensors file, by path.
    ///
    /// # Errors
    /// If a tensor is missing, left over or of another shape: each is named, with both shapes.
    fn load(&self, path: impl AsRef<std::path::Path>) -> Result<()>
    where
        Self: Sized,
    {
        self.load_with(path, &crate::LoadOptions::default())
    }

    /// As [`Module::load`], with names skipped or renamed.
    fn load_with(&self, path: impl AsRef<std::path::Path>, options: &crate::LoadOptions) -> Result<()>
    where
        Self: Sized,
    {
        let path = path.as_ref();
        let tensors = crate::weights::read_tensors(path)?;
        crate::weights::assign(self, tensors, options, &path.display().to_string())
    }

    /// Gives every parameter and state its tensor by path; `source` is what errors call where they come from. All are
    /// checked before any changes.
    fn assign(&self, tensors: HashMap<String, Tensor>, options: &crate::LoadOptions, source: &str) -> Result<()> {
        crate::weights::assign(self, tensors, options, source)
    }

    /// Layers, output shapes and parameter counts for an input of this shape, as a table.
    fn summary(&self, input: impl Into<etude_core::Shape>) -> crate::Summary
    where
        Self: Forward + Sized,
    {
        summary::summarise(self, &etude_core::zeros(input))
    }
}

/// Something that maps one tensor to another.
pub trait Forward: Module {
    /// The output for `x`.
    fn forward(&self, x: &Tensor) -> Tensor;

    /// This model, as it is now, made ready for evaluation: see [`crate::Compiled`].
    ///
    /// ```
    /// # use etude_nn::*;
    /// let model = Sequential::new().add(Conv2d::new(1, 4, 3).init()).add(BatchNorm::new(4).init());
    /// let ready = model.compile();
    /// let x = etude_core::randn([1, 1, 8, 8]);
    /// assert_eq!(ready.forward(&x).shape(), [1, 4, 6, 6]);
    /// ```
    fn compile(&self) -> crate::Compiled<Self>
    where
        Self: Clone + Sized,
    {
        crate::Compiled::new(self.clone())
    }

    /// The outputs of the layers at these paths, such as `features.3`, for `x`, in the order asked. A layer that runs
    /// several times gives its first output. What no output needs is never computed.
    ///
    /// # Errors
    /// If no layer that runs has such a path: the paths there are, are named.
    fn cut(&self, x: &Tensor, paths: &[&str]) -> Result<Vec<Tensor>> {
        watch::cut(self, x, paths)
    }
}

/// What a walk finds.
pub enum Entry<'a> {
    /// A trainable tensor.
    Param(&'a Param),
    /// A tensor that forward passes update, such as running statistics.
    State(&'a State),
}

/// A visit of a module and everything in it.
pub struct Walk<'a> {
    path: String,
    /// Whether labels learn the paths of this walk.
    naming: bool,
    found: &'a mut dyn FnMut(&str, Entry),
}

impl<'a> Walk<'a> {
    /// A walk that starts here and calls `found` for each parameter and state.
    pub fn new(found: &'a mut dyn FnMut(&str, Entry)) -> Walk<'a> {
        Walk { path: String::new(), naming: true, found }
    }

    /// A walk of a part of a model: labels keep the paths they have in the whole.
    pub(crate) fn of_part(found: &'a mut dyn FnMut(&str, Entry)) -> Walk<'a> {
        Walk { naming: false, ..Walk::new(found) }
    }

    /// Visits `part` under `name`.
    pub fn field(&mut self, name: &str, part: &dyn Visit) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        part.visit_part(self);
        self.path.truncate(length);
    }
}

/// [`Module::visit`] without the methods that need a size: what fields are visited through.
pub trait Visit {
    /// See [`Module::visit`].
    fn visit_part(&self, walk: &mut Walk);
}

impl<M: Module + ?Sized> Visit for M {
    fn visit_part(&self, walk: &mut Walk) {
        self.visit(walk);
    }
}

/// Calls `found` for everything in `module`.
pub(crate) fn walk(module: &(impl Module + ?Sized), found: &mut dyn FnMut(&str, Entry)) {
    module.visit(&mut Walk::new(found));
}

impl Module for Param {
    fn visit(&self, walk: &mut Walk) {
        (walk.found)(&walk.path, Entry::Param(self));
    }
}

impl Module for State {
    fn visit(&self, walk: &mut Walk) {
        (walk.found)(&walk.path, Entry::State(self));
    }
}

impl<M: Module> Module for Option<M> {
    fn visit(&self, walk: &mut Walk) {
        if let Some(module) = self {
            module.visit(walk);
        }
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit(&self, walk: &mut Walk) {
        (**self).visit(walk);
    }
}

impl<M: Module> Module for Vec<M> {
    fn visit(&self, walk: &mut Walk) {
        self.iter().enumerate().for_each(|(i, module)| walk.field(&i.to_string(), module));
    }
}

impl<M: Module, const N: usize> Module for [M; N] {
    fn visit(&self, walk: &mut Walk) {
        self.iter().enumerate().for_each(|(i, module)| walk.field(&i.to_string(), module));
    }
}

impl<A: Module, B: Module> Module for (A, B) {
    fn visit(&self, walk: &mut Walk) {
        walk.field("0", &self.0);
        walk.field("1", &self.1);
    }
}

/// Things a model may hold beside its layers, without parameters.
macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Module for $type {
            fn visit(&self, _walk: &mut Walk) {}
        }
    )*};
}

plain!(bool, u8, u32, u64, usize, i32, i64, isize, f32, f64, String, &'static str, Tensor);

/// A layer's name tag: what errors, traces, summaries and cuts call it. A field of every layer.
#[derive(Debug)]
pub struct Label {
    kind: Arc<str>,
    /// The layer's path, and path and kind as one text, once a walk came by.
    place: Mutex<Option<(Arc<str>, Arc<str>)>>,
}

impl Label {
    /// A tag that says what the layer is, such as `Linear 120→84`.
    pub fn new(kind: impl AsRef<str>) -> Label {
        Label { kind: kind.as_ref().into(), place: Mutex::new(None) }
    }

    /// What the layer is.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Where the layer is and what it is, as the last walk that came by saw it.
    fn place(&self) -> MutexGuard<'_, Option<(Arc<str>, Arc<str>)>> {
        self.place.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Runs a layer's forward pass under its name; a running summary or cut notes the output.
    #[track_caller]
    pub fn call(&self, layer: &dyn Visit, run: impl FnOnce() -> Tensor) -> Tensor {
        let (path, text) = match &*self.place() {
            Some((path, text)) => (path.clone(), text.clone()),
            None => (Arc::default(), self.kind.clone()),
        };
        let output = context::scope(&text, run);
        watch::note(&path, &text, layer, &output);
        output
    }
}

impl Clone for Label {
    fn clone(&self) -> Label {
        Label::new(&self.kind)
    }
}

impl Module for Label {
    /// The tag learns the path of the layer it hangs on.
    fn visit(&self, walk: &mut Walk) {
        if let Some((path, _)) = walk.path.rsplit_once('.').filter(|_| walk.naming) {
            let mut place = self.place();
            if place.as_ref().is_none_or(|(known, _)| &**known != path) {
                *place = Some((path.into(), format!("{path} ({})", self.kind).into()));
            }
        }
    }
}
