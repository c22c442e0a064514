//! What a program has to do, for comparison with what the machine can do.

use super::{Instruction, Prepared};
use crate::Cost;

impl Prepared {
    /// The cost over `kept` and `reduced` axes: an operation for each arithmetic instruction and element; inputs, with
    /// `strides` over the same axes, and outputs once each, repeated elements not counted.
    pub fn cost<'a>(&self, kept: &[usize], reduced: &[usize], strides: impl Iterator<Item = &'a [isize]>) -> Cost {
        let sizes = || kept.iter().chain(reduced);
        let elements: usize = sizes().product();
        let arithmetic = |instruction: &&Instruction| match instruction {
            Instruction::Unary { .. } | Instruction::Binary { .. } | Instruction::Select { .. } => true,
            Instruction::Reduce { .. } => true,
            Instruction::Load { .. } | Instruction::Scalar { .. } => false,
            Instruction::Cast { .. } | Instruction::Store { .. } => false,
        };
        let operations = elements * self.program.instructions.iter().filter(arithmetic).count();
        let read = strides.zip(&self.program.inputs).map(|(strides, dtype)| {
            let distinct = sizes().zip(strides).filter(|(_, stride)| **stride != 0).map(|(size, _)| size);
            distinct.product::<usize>() * dtype.size()
        });
        let written = self.program.outputs.iter().zip(&self.folded).map(|(dtype, &folded)| {
            let count = if folded { kept.iter().product() } else { elements };
            count * dtype.size()
        });
        Cost { operations: operations as u64, bytes: (read.sum::<usize>() + written.sum::<usize>()) as u64 }
    }
}
