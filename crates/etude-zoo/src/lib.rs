//! Known architectures under the parameter names their public weights use, so that [`etude::nn::Module::load`] reads those
//! as they are. What a file holds beyond the model (a pooler, position numbers) is passed over with
//! [`etude::nn::LoadOptions::allow_extra`].

#![forbid(unsafe_code)]

mod bert;
mod resnet;

pub use bert::{Bert, BertSizes};
pub use resnet::ResNet;
