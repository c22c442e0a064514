//! Étude: deep learning in Rust, written like PyTorch and run like a compiled graph.
//!
//! ```
//! use etude::prelude::*;
//!
//! let x = tensor(3.0).variable();
//! let y = &x * &x;
//! assert_eq!(y.backward()?.get(&x).unwrap().item(), 6.0);
//! # Ok::<(), etude::Error>(())
//! ```

#![forbid(unsafe_code)]

pub use etude_core as core;
pub use etude_data as data;
pub use etude_train as train;

/// Parameters, layers, initialisers, losses, optimisers, schedules, weights in files: the crate `etude_nn`.
pub mod nn {
    // A crate that depends on `etude` alone has no `etude_nn` for the macro to name.
    pub use etude_derive::EtudeModule as Module;
    pub use etude_nn::*;
}

pub use etude_core::random::seed;
pub use etude_train::{Error, Result};

/// What a program that trains models usually needs.
pub mod prelude {
    pub use crate::nn::init::Init;
    pub use crate::nn::loss::*;
    pub use crate::nn::optim::{Adam, AdamW, Clip, Optimizer, Sgd};
    pub use crate::nn::{self, *};
    pub use etude_core::{
        ConvOptions, DType, Gradients, PadMode, Shape, State, Tensor, arange, bernoulli, cat, categorical, evaluating,
        eye, full, grad, is_training, linspace, meshgrid, no_grad, ones, permutation, randn, stack, tensor, training,
        uniform, zeros,
    };
    pub use etude_data::{self as data, Dataset, Loader};
    pub use etude_train::{Claim, EarlyStopping, Report, Session, Table, Trainer, evaluate};
}
