//! The models of the thirteen workloads, one file a family, with the parameter names of their PyTorch counterparts.

pub mod convnet;
pub mod crnn;
pub mod dense;
pub mod lstm;
pub mod resnet;
pub mod textcnn;
pub mod transformer;
pub mod unet;
pub mod vae;
