//! Layers one after another.

use crate::{Forward, Module, Walk};
use etude_core::Tensor;
use std::fmt;

/// A layer that can be kept in a box and copied: every [`Forward`] that is `Clone`, `Send` and `Sync`.
pub trait Layer: Forward + Send + Sync {
    /// An independent copy in a box.
    fn boxed(&self) -> Box<dyn Layer>;
}

impl<L: Forward + Clone + Send + Sync + 'static> Layer for L {
    fn boxed(&self) -> Box<dyn Layer> {
        Box::new(self.clone())
    }
}

/// Layers one after another. Their parameters are named by number (`0.weight`, `2.bias`), as in PyTorch, or by the names
/// they are added under.
///
/// ```
/// # use etude_nn::*;
/// let model = Sequential::new()
///     .add(Linear::new(4, 8).init())
///     .add(Activation::Tanh.layer())
///     .add(Linear::new(8, 2).init());
/// assert_eq!(model.forward(&etude_core::ones([3, 4])).shape(), [3, 2]);
/// assert_eq!(model.parameters()[2].0, "2.weight");
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<(String, Box<dyn Layer>)>,
}

impl Sequential {
    /// No layers yet: what goes in comes out.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Adds a layer under its number.
    #[allow(clippy::should_implement_trait)] // a builder's word, not a sum
    pub fn add(self, layer: impl Layer + 'static) -> Sequential {
        let name = self.layers.len().to_string();
        self.named(name, layer)
    }

    /// Adds a layer under a name.
    ///
    /// # Panics
    /// If there is a layer of that name.
    #[track_caller]
    pub fn named(mut self, name: impl Into<String>, layer: impl Layer + 'static) -> Sequential {
        let name = name.into();
        assert!(self.get(&name).is_none(), "Sequential: there is a layer `{name}` already");
        self.layers.push((name, Box::new(layer)));
        self
    }

    /// The layer of this name or number.
    pub fn get(&self, name: &str) -> Option<&dyn Layer> {
        self.layers.iter().find(|(known, _)| known == name).map(|(_, layer)| &**layer)
    }

    /// How many layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Clone for Sequential {
    fn clone(&self) -> Sequential {
        Sequential { layers: self.layers.iter().map(|(name, layer)| (name.clone(), (**layer).boxed())).collect() }
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.layers.iter().map(|(name, _)| name)).finish()
    }
}

impl Module for Sequential {
    fn visit(&self, walk: &mut Walk) {
        self.layers.iter().for_each(|(name, layer)| walk.field(name, layer));
    }
}

impl Forward for Sequential {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layers.iter().fold(x.clone(), |x, (_, layer)| layer.forward(&x))
    }
}
