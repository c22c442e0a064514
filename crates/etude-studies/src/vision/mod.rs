//! Pictures: recognising, finding and drawing.

pub mod captcha;
pub mod captcha_ctc;
pub mod lenet;
mod lettering;
pub mod mlp;
mod reading;
