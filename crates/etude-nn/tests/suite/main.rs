//! Layers, optimisers and schedules: against PyTorch's answers, and against two-sided differences.

mod gradients;
mod hold;
mod layers;
mod optimisers;
mod reader;
mod schedules;
mod structure;
