//! Étude's layers, optimisers and schedules against PyTorch's answers.

mod hold;
mod layers;
mod optimisers;
mod reader;
mod schedules;
