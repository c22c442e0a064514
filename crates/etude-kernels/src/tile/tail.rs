//! A program that runs on blocks of rows as soon as a kernel has made them, while they are in its cache.

use super::plan::{Decision, Plan};
use super::prepare::Prepared;
use super::{Input, Scalar};
use crate::Buffer;

/// An elementwise program over `[rows, columns]` whose one output stands where a kernel's output does. Inputs that stand in
/// for output 0 are what the kernel made.
pub struct Tail<'a> {
    /// The program, without reductions and with one output.
    pub prepared: &'a Prepared,
    /// Two strides each.
    pub inputs: &'a [Input<'a>],
    /// The numbers the program reads.
    pub scalars: &'a [Scalar],
}

/// A [`Tail`] whose operands are placed and checked, ready to run on each block.
pub(crate) struct Blocks<'a> {
    tail: &'a Tail<'a>,
    rows: usize,
    block: usize,
    /// The address of each operand's first element, and how many bytes a row is long.
    bases: Vec<(*mut u8, isize)>,
    /// For whole blocks, and for the last one.
    resolved: [Decision<'a>; 2],
}

// SAFETY: the pointers are to operands that outlive the call; blocks are disjoint parts of the output, and the inputs are
// written by nobody else.
unsafe impl Sync for Blocks<'_> {}

impl Tail<'_> {
    /// Places the operands, `out` among them, for blocks of `block` rows.
    ///
    /// # Panics
    /// If there is not exactly one output, an input reaches outside of its buffer, or a scalar is missing.
    pub(crate) fn over(&self, [rows, columns]: [usize; 2], block: usize, out: &mut Buffer) -> Blocks<'_> {
        let program = self.prepared.program();
        assert!(program.outputs.len() == 1 && !self.prepared.folded[0], "a tail has one output and folds nothing");
        assert!(self.scalars.len() >= self.prepared.scalars, "a tail's scalars are missing");
        let resolve = |rows: usize| self.prepared.resolve(&[rows, columns], &[], self.inputs);
        let whole = resolve(rows);
        let mut places = vec![std::ptr::null_mut(); whole.operands.len()];
        whole.place(&mut places, self.inputs, &mut [out]);
        let sizes = program.inputs.iter().chain(&program.outputs).map(|dtype| dtype.size() as isize);
        let strides = self.inputs.iter().map(|input| input.strides[0]).chain([columns as isize]);
        let lines = sizes.zip(strides).map(|(size, stride)| size * stride);
        let last = rows - (rows.div_ceil(block) - 1) * block;
        Blocks {
            tail: self,
            rows,
            block,
            bases: places.into_iter().zip(lines).collect(),
            resolved: [resolve(block), resolve(last)],
        }
    }
}

impl Blocks<'_> {
    /// Runs the program on block number `index`.
    ///
    /// # Safety
    /// The block lies inside the output, its rows are written, and nobody else uses them meanwhile.
    pub(crate) unsafe fn block(&self, index: usize) {
        let first = index * self.block;
        let resolved = &self.resolved[(first + self.block >= self.rows) as usize];
        // Inside the operands: all rows were checked.
        let bases: Vec<*mut u8> =
            self.bases.iter().map(|&(base, line)| base.wrapping_offset(first as isize * line)).collect();
        let plan = Plan { prepared: self.tail.prepared, resolved, bases: &bases, scalars: self.tail.scalars };
        let layout = &resolved.layout;
        plan.task(0..layout.tiles(false), 0..layout.tiles(true), None);
    }
}
