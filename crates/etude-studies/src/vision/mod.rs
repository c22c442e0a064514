//! Pictures: recognising, finding and drawing.

pub mod captcha;
pub mod captcha_ctc;
mod course;
pub mod dream;
pub mod emoji;
pub mod lenet;
mod lettering;
pub mod mlp;
mod reading;
pub mod style;
pub mod vgg;
