//! Étude's data: neutral arrays, readers of common formats, bundled data sets, loaders and augmentation.
//!
//! - [`Array`] is what every reader returns: a shape and the values, in row-major order.
//! - [`Dataset`] is a classification set in memory; [`load`] opens a bundled one, [`load_from`] what a folder holds.
//! - [`Loader`] makes shuffled, augmented batches on worker threads. Its batches depend on the seed, the epoch and the
//!   example, never on the number of workers, and its position can be saved and restored in mid-epoch.
//!
//! Everything read from outside comes back as a `Result`: no file makes these functions panic, or allocate what the
//! file merely claims to hold.
//!
//! ```
//! # #[cfg(feature = "bundled")] {
//! let flowers = etude_data::load("iris")?;
//! let parts = flowers.split([0.7, 0.1, 0.2], 1)?;
//! let statistics = parts.train.statistics();
//! let mut loader = etude_data::Loader::new(parts.train.normalised(&statistics)?, 32).seed(1);
//! for batch in loader.epoch() {
//!     let batch = batch?;
//!     assert_eq!(batch.inputs.shape[1], 4);
//! }
//! # }
//! # Ok::<(), etude_data::Error>(())
//! ```

pub mod abc;
pub mod array;
pub mod bundled;
pub mod cifar;
pub mod dataset;
pub mod detect;
pub mod error;
pub mod folder;
pub mod hdf5;
pub mod idx;
mod input;
pub mod loader;
pub mod npy;
pub mod npz;
pub mod random;
pub mod table;
pub mod text;
pub mod transform;

pub use array::{Array, Values};
pub use bundled::{Info, bundled, load, load_text, photograph};
pub use dataset::{Dataset, Split, Statistics};
pub use detect::{Loaded, load_from};
pub use error::{Error, Result};
pub use loader::{Batch, Loader, Sample, Source, State};
pub use random::Rng;
pub use transform::Transform;
