//! What a session saves: handles to tensors, or values that serialise.

use crate::run::Checkpoint;
use crate::{Error, Result};
use etude_nn::Kept;
use serde::{Serialize, de::DeserializeOwned};
use std::cell::RefCell;
use std::rc::Rc;

/// Something kept under a name.
pub(super) struct Saved {
    pub(super) name: String,
    pub(super) what: What,
    /// Whether it still has its first value, where the checkpoint has another.
    pub(super) waiting: bool,
}

pub(super) enum What {
    Tensors(Kept),
    Value(Box<dyn Value>),
}

/// A cell that can be written to bytes and read back, whatever it holds.
pub(super) trait Value {
    fn bytes(&self) -> postcard::Result<Vec<u8>>;
    fn restore(&self, bytes: &[u8]) -> postcard::Result<()>;
}

impl<T: Serialize + DeserializeOwned> Value for Rc<RefCell<T>> {
    fn bytes(&self) -> postcard::Result<Vec<u8>> {
        postcard::to_allocvec(&*self.borrow())
    }

    fn restore(&self, bytes: &[u8]) -> postcard::Result<()> {
        postcard::from_bytes(bytes).map(|value| *self.borrow_mut() = value)
    }
}

impl Saved {
    pub(super) fn file_name(&self) -> String {
        match &self.what {
            What::Tensors(_) => format!("{}.safetensors", self.name),
            What::Value(_) => format!("{}.postcard", self.name),
        }
    }

    /// The file that holds what there is now.
    pub(super) fn file(&self) -> Result<(String, Vec<u8>)> {
        let bytes = match &self.what {
            What::Tensors(kept) => etude_nn::tensors_to_bytes(&kept.tensors())?,
            What::Value(value) => {
                value.bytes().map_err(|error| Error::new(format!("`{}` cannot be saved: {error}", self.name)))?
            }
        };
        Ok((self.file_name(), bytes))
    }

    /// Puts back what a checkpoint holds.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let name = self.file_name();
        let bytes = checkpoint.read(&name)?;
        let place = checkpoint.path().join(&name);
        match &mut self.what {
            What::Tensors(kept) => {
                let place = place.display().to_string();
                kept.restore(etude_nn::tensors_from_bytes(&bytes, &place)?, &place)?;
            }
            What::Value(value) => value.restore(&bytes).map_err(|error| {
                Error::at(&place, format!("not what this étude saves: {error}"))
                    .remedy("resume with the étude that wrote it")
            })?,
        }
        self.waiting = false;
        Ok(())
    }
}
