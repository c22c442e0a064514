//! Foundations: gradients, layers, seeds, and the three regressions.

pub mod backprop;
pub mod gradcheck;
pub mod layers;
pub mod linear;
pub mod logistic;
pub mod seeds;
pub mod softmax;
pub mod summary;
pub mod tape;
