//! Étude's layers, optimisers and schedules against PyTorch's answers.

mod optimisers;
mod reader;
mod schedules;
