//! Running a prepared program: tasks, tiles, steps.

use super::layout::{MAX_AXES, PerAxis, copy_strided};
use super::plan::{BindAction, Plan, Step};
use super::prepare::{Node, Prepared};
use super::reduce::DEPTH;
use super::{Input, Program, Scalar};
use crate::Buffer;
use crate::threads::{SendPointer, even, parallel};
use std::cell::RefCell;
use std::ops::Range;

/// Simple instructions on elements that make a task: some tens of microseconds.
const TASK: usize = 1 << 16;
/// Tasks a call is cut into at most.
const MAX_TASKS: usize = 64;
/// Parts of the folded axes where memory runs along them first.
const PARTS: usize = 4;

impl Program {
    /// Prepares and runs the program; a plan that runs it again keeps what [`Program::prepare`] gives.
    ///
    /// # Panics
    /// As [`Prepared::run`], and if the program is faulty.
    pub fn run(
        &self,
        kept: &[usize],
        reduced: &[usize],
        inputs: &[Input],
        scalars: &[Scalar],
        outputs: &mut [&mut Buffer],
    ) {
        match self.clone().prepare() {
            Ok(prepared) => prepared.run(kept, reduced, inputs, scalars, outputs),
            Err(message) => panic!("{message}"),
        }
    }
}

impl Prepared {
    /// What the program is as a whole, if there is a loop of its own for it.
    pub fn known(&self) -> Option<&'static str> {
        self.adam.map(|_| "adam")
    }

    /// The program this was made from.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs over the iteration shape `kept ++ reduced`.
    ///
    /// `inputs[i].strides` has one entry for each of these axes. `Store` outputs are contiguous over the whole
    /// iteration shape, `Reduce` outputs over `kept`. Over an axis of size 0 nothing is stored, and reductions give
    /// their identity: 0, 1, the smallest or the largest value.
    ///
    /// # Panics
    /// If an input reaches outside of its buffer, an output's buffer is too small, a scalar is missing, an in-place
    /// input does not stand where its output does, or more than 16 axes have a size other than 1.
    pub fn run(
        &self,
        kept: &[usize],
        reduced: &[usize],
        inputs: &[Input],
        scalars: &[Scalar],
        outputs: &mut [&mut Buffer],
    ) {
        if kept.contains(&0) {
            return;
        }
        if reduced.contains(&0) {
            self.fill_identities(kept.iter().product(), outputs);
            return;
        }
        assert!(scalars.len() >= self.scalars, "tile program: {} scalars are missing", self.scalars - scalars.len());
        let resolved = self.resolve(kept, reduced, inputs);
        let (mut few, mut many) = ([std::ptr::null_mut(); 16], Vec::new());
        let operands = resolved.operands.len();
        let bases = match few.get_mut(..operands) {
            Some(bases) => bases,
            None => {
                many.resize(operands, std::ptr::null_mut());
                &mut many
            }
        };
        resolved.place(bases, inputs, outputs);
        let plan = Plan { prepared: self, resolved: &resolved, bases, scalars };
        let layout = &resolved.layout;
        if let Some(adam) = &self.adam
            && resolved.is_dense()
        {
            let count = layout.sizes[..layout.axes].iter().product();
            // SAFETY: the operands are `count` elements, one after the other, and were checked when they were placed;
            // an input is an output's place or apart from it.
            unsafe { adam.run(bases, count, scalars) };
            return;
        }
        let (outer, inner) = (layout.tiles(false), layout.tiles(true));
        let elements: usize = layout.sizes[..layout.axes].iter().product();
        // By size only, so that results do not depend on the number of threads.
        let tasks = (elements.saturating_mul(self.cost) / TASK).clamp(1, MAX_TASKS);
        // Where memory runs along a folded axis first, as in sums over examples, tasks that each took some of what is kept
        // would read all over what every core has written; and to write again where another core has read costs several
        // times as much. Tiles that widen their sums at the end anyway are cut there instead.
        let outside = layout.folds_outside();
        let many = outer >= tasks.min(32);
        let cut = !many || (outside && tasks.min(inner) >= PARTS && layout.shallowest() >= DEPTH);
        if tasks == 1 || !cut {
            let share = outer.div_ceil(even(tasks));
            parallel(outer.div_ceil(share), |task| {
                plan.task(task * share..((task + 1) * share).min(outer), 0..inner, None);
            });
            return;
        }
        let share = inner.div_ceil(if many { PARTS } else { tasks.div_ceil(outer) });
        let chunks = inner.div_ceil(share);
        if chunks <= 1 {
            parallel(outer, |task| plan.task(task..task + 1, 0..inner, None));
            return;
        }
        // The reduced tiles are cut too, and partial results combined in order.
        let piece = plan.wide_bytes() * self.reductions.len();
        let mut partial = Buffer::recycled(outer * chunks * piece);
        let place = SendPointer(partial.as_mut_slice::<u8>().as_mut_ptr());
        parallel(outer * chunks, |task| {
            let (tile, chunk) = if outside { (task % outer, task / outer) } else { (task / chunks, task % chunks) };
            // SAFETY: each task has its own piece of the buffer.
            let target = unsafe { place.at((tile * chunks + chunk) * piece) };
            plan.task(tile..tile + 1, chunk * share..((chunk + 1) * share).min(inner), Some(target));
        });
        for tile in 0..outer {
            // SAFETY: every task has written its piece; they are read and written here alone.
            unsafe { plan.combine(tile, place.at(tile * chunks * piece), chunks, piece) };
        }
    }

    /// Reductions over nothing.
    fn fill_identities(&self, elements: usize, outputs: &mut [&mut Buffer]) {
        for node in &self.nodes {
            if let Node::Reduce { number, output, .. } = *node {
                let reduction = &self.reductions[number];
                let bytes = &mut outputs[output].as_mut_slice::<u8>()[..elements * reduction.size];
                for element in bytes.chunks_exact_mut(reduction.size) {
                    element.copy_from_slice(&reduction.identity.0[..reduction.size]);
                }
            }
        }
    }
}

/// What a thread keeps between tasks.
struct Scratch {
    /// Tile buffers, cells, accumulators.
    memory: Buffer,
    /// Where each value stands.
    pointers: Vec<*mut u8>,
    /// For each bind, where it last collected a whole tile from.
    collected: Vec<*const u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { memory: Buffer::zeroed(0), pointers: Vec::new(), collected: Vec::new() });
}

/// The state of one task.
struct Machine<'a> {
    plan: &'a Plan<'a>,
    pointers: &'a mut [*mut u8],
    collected: &'a mut [*const u8],
    memory: *mut u8,
    /// Tile coordinates, and the extents of the tile there.
    coordinates: PerAxis<usize>,
    extents: PerAxis<usize>,
    count: usize,
    fresh: bool,
}

impl Plan<'_> {
    /// Bytes between tile buffers: not a power of two, so that streams do not fall on the same cache sets.
    fn slot_bytes(&self) -> usize {
        self.prepared.tile * self.prepared.largest + 192
    }

    /// Bytes of one reduction's wide accumulators of a tile, in a piece of partial results.
    fn wide_bytes(&self) -> usize {
        (self.resolved.layout.widest() * 8).next_multiple_of(64)
    }

    /// Offset in scratch memory of reduction `number`'s accumulator and, after it, the wide one.
    fn accumulator(&self, number: usize) -> usize {
        self.cells() + (self.resolved.values * 8).next_multiple_of(64) + number * (self.prepared.tile * 16 + 128)
    }

    /// Offset in scratch memory of the uniform values' cells, 8 bytes each.
    fn cells(&self) -> usize {
        self.resolved.slots * self.slot_bytes()
    }

    /// Runs `work` with scratch memory for this plan.
    fn with_machine(&self, work: impl FnOnce(&mut Machine)) {
        SCRATCH.with_borrow_mut(|scratch| {
            let bytes = self.accumulator(self.prepared.reductions.len());
            if scratch.memory.bytes() < bytes {
                scratch.memory = Buffer::recycled(bytes);
            }
            let memory = scratch.memory.as_mut_slice::<u8>().as_mut_ptr();
            scratch.pointers.clear();
            // SAFETY: the cells lie inside the memory just made large enough.
            scratch
                .pointers
                .extend((0..self.resolved.values).map(|value| unsafe { memory.add(self.cells() + value * 8) }));
            scratch.collected.clear();
            scratch.collected.resize(self.resolved.binds.len(), std::ptr::null());
            work(&mut Machine {
                plan: self,
                pointers: &mut scratch.pointers,
                collected: &mut scratch.collected,
                memory,
                coordinates: [0; MAX_AXES],
                extents: [1; MAX_AXES],
                count: 1,
                fresh: true,
            });
        });
    }

    /// Runs the tiles of a range of kept and a range of reduced tile numbers. Reductions go to their outputs, or as
    /// wide accumulators, one after the other, to `partial`.
    pub(super) fn task(&self, kept: Range<usize>, reduced: Range<usize>, partial: Option<*mut u8>) {
        self.with_machine(|machine| {
            for node in &self.prepared.nodes {
                if let Node::Scalar { to, index } = *node {
                    let bytes = self.scalars[index].bytes(self.prepared.values[to].dtype);
                    // SAFETY: each value's cell has 8 bytes.
                    unsafe { (machine.pointers[to] as *mut [u8; 8]).write(bytes) };
                }
            }
            machine.place_slots();
            self.resolved.layout.seek(&mut machine.coordinates, false, kept.start);
            // SAFETY: the plan has checked all bounds, and tile numbers lie inside the layout.
            unsafe {
                for _ in kept {
                    self.resolved.layout.seek(&mut machine.coordinates, true, reduced.start);
                    machine.row_of_tiles(reduced.len(), partial);
                    self.resolved.layout.advance(&mut machine.coordinates, false);
                }
            }
        });
    }

    /// Combines the partial results of kept tile `tile` in order and writes the outputs.
    ///
    /// # Safety
    /// `partial` holds `chunks` pieces of `piece` bytes, written by [`Plan::task`].
    unsafe fn combine(&self, tile: usize, partial: *mut u8, chunks: usize, piece: usize) {
        self.with_machine(|machine| {
            self.resolved.layout.seek(&mut machine.coordinates, false, tile);
            machine.measure();
            let kept = machine.kept();
            for (number, reduction) in self.prepared.reductions.iter().enumerate() {
                // SAFETY: the caller's promise; the first piece gathers the others.
                unsafe {
                    let first = partial.add(number * self.wide_bytes());
                    for chunk in 1..chunks {
                        (reduction.merge)(first, first.add(chunk * piece), 1, kept);
                    }
                    let acc = machine.memory.add(self.accumulator(number));
                    (reduction.narrow)(acc, first, 1, kept);
                    machine.write_reduction(number, acc);
                }
            }
        });
    }
}

impl Machine<'_> {
    /// Points computed values that are tiles, and collected ones, to their tile buffers.
    fn place_slots(&mut self) {
        let slot = |number: usize| {
            // SAFETY: scratch memory begins with `slots` tile buffers.
            unsafe { self.memory.add(number * self.plan.slot_bytes()) }
        };
        for step in &self.plan.resolved.steps {
            if let Step::Compute { to, one: false, .. } = *step
                && let Some(value) = self.plan.prepared.values.get(to)
            {
                self.pointers[to] = slot(value.slot);
            }
        }
        for bind in &self.plan.resolved.binds {
            if let BindAction::Gather(number, _) = bind.action {
                self.pointers[bind.value] = slot(number);
            }
        }
    }

    /// The extents of the tile at the current coordinates.
    fn measure(&mut self) {
        let layout = &self.plan.resolved.layout;
        self.count = 1;
        for axis in 0..layout.axes {
            let left = layout.sizes[axis] - self.coordinates[axis] * layout.block[axis];
            self.extents[axis] = layout.block[axis].min(left);
            self.count *= self.extents[axis];
        }
    }

    /// Kept positions of the current tile.
    fn kept(&self) -> usize {
        let layout = &self.plan.resolved.layout;
        (0..layout.axes).filter(|&axis| !layout.reduced[axis]).map(|axis| self.extents[axis]).product()
    }

    /// The address of an operand's part of the current tile.
    ///
    /// # Safety
    /// The coordinates lie inside the layout.
    unsafe fn address(&self, operand: usize) -> *mut u8 {
        let layout = &self.plan.resolved.layout;
        let place = &self.plan.resolved.operands[operand];
        let mut offset = 0;
        for axis in 0..layout.axes {
            offset += (self.coordinates[axis] * layout.block[axis]) as isize * place.strides[axis];
        }
        // SAFETY: the plan has checked that every position inside the layout lies inside the operand's buffer.
        unsafe { self.plan.bases[operand].offset(offset * place.size as isize) }
    }

    /// The extents of the current tile with, along each axis, the strides of a row-by-row tile and of an operand.
    fn against_tile(&self, operand: usize) -> ([(usize, isize, isize); MAX_AXES], usize) {
        let axes = self.plan.resolved.layout.axes;
        let strides = &self.plan.resolved.operands[operand].strides;
        let mut loops = [(1, 0, 0); MAX_AXES];
        let mut step = 1;
        for axis in (0..axes).rev() {
            loops[axis] = (self.extents[axis], step, strides[axis]);
            step *= self.extents[axis] as isize;
        }
        (loops, axes)
    }

    /// Runs `count` tiles along the reduced axes and finishes the reductions over them.
    ///
    /// # Safety
    /// The tiles lie inside the layout; `partial`, if given, has room for every wide accumulator.
    unsafe fn row_of_tiles(&mut self, count: usize, partial: Option<*mut u8>) {
        let plan = self.plan;
        let reductions = &plan.prepared.reductions;
        let tile = plan.prepared.tile;
        // A single tile needs no wide accumulator.
        let single = count == 1 && partial.is_none();
        let wide = |number: usize, memory: *mut u8| match partial {
            // SAFETY: one wide accumulator after the other, as the caller promised.
            Some(place) => unsafe { place.add(number * plan.wide_bytes()) },
            // SAFETY: behind the accumulator proper in scratch memory.
            None => unsafe { memory.add(plan.accumulator(number) + tile * 8 + 64) },
        };
        let mut depth = 0;
        for index in 0..count {
            self.measure();
            let kept = self.kept();
            let memory = self.memory;
            if index == 0 {
                for (number, reduction) in reductions.iter().enumerate() {
                    let (acc, identity) = (plan.accumulator(number), &reduction.identity);
                    let null = std::ptr::null();
                    // SAFETY: accumulators have room for a tile of elements, wide ones of wide elements.
                    unsafe {
                        (reduction.fill.0)(memory.add(acc), identity.0.as_ptr(), null, null, kept);
                        if !single {
                            (reduction.fill.1)(wide(number, memory), identity.1.as_ptr(), null, null, kept);
                        }
                    }
                }
            }
            // SAFETY: passed on.
            unsafe { self.tile() };
            depth += self.count / kept;
            let last = index + 1 == count;
            if !single && (last || depth >= DEPTH) {
                depth = 0;
                for (number, reduction) in reductions.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe {
                        let acc = memory.add(plan.accumulator(number));
                        (reduction.widen)(wide(number, memory), acc, 1, kept);
                        let null = std::ptr::null();
                        (reduction.fill.0)(acc, reduction.identity.0.as_ptr(), null, null, kept);
                    }
                }
            }
            if last && partial.is_none() {
                for (number, reduction) in reductions.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe {
                        let acc = memory.add(plan.accumulator(number));
                        if !single {
                            (reduction.narrow)(acc, wide(number, memory), 1, kept);
                        }
                        self.write_reduction(number, acc);
                    }
                }
            }
            plan.resolved.layout.advance(&mut self.coordinates, true);
        }
    }

    /// Writes an accumulator to its output, at the current coordinates.
    ///
    /// # Safety
    /// The coordinates lie inside the layout, `acc` holds the tile's kept positions.
    unsafe fn write_reduction(&self, number: usize, acc: *const u8) {
        let layout = &self.plan.resolved.layout;
        let output = self.plan.prepared.nodes.iter().find_map(|node| match *node {
            Node::Reduce { number: found, output, .. } if found == number => Some(output),
            _ => None,
        });
        let operand =
            self.plan.resolved.operands.len() - self.plan.prepared.program.outputs.len() + output.unwrap_or(0);
        let strides = &self.plan.resolved.operands[operand].strides;
        let mut loops = [(1, 0, 0); MAX_AXES];
        let mut step = 1;
        for axis in (0..layout.axes).rev().filter(|&axis| !layout.reduced[axis]) {
            loops[axis] = (self.extents[axis], strides[axis], step);
            step *= self.extents[axis] as isize;
        }
        let size = self.plan.resolved.operands[operand].size;
        // SAFETY: the plan has checked the output's size; no other task has this kept tile.
        unsafe { copy_strided(self.address(operand), acc, loops[..layout.axes].iter().copied(), size) };
    }

    /// Runs every step on the current, measured tile.
    ///
    /// # Safety
    /// The coordinates lie inside the layout, and no other task has the same tile.
    unsafe fn tile(&mut self) {
        let plan = self.plan;
        let layout = &plan.resolved.layout;
        // Whether the tile is whole but for its outermost axis: then it is a prefix of any whole one.
        let prefix = (layout.first_blocked + 1..layout.axes).all(|axis| self.extents[axis] == layout.block[axis]);
        let whole = prefix
            && (layout.first_blocked == layout.axes
                || self.extents[layout.first_blocked] == layout.block[layout.first_blocked]);
        for (index, bind) in plan.resolved.binds.iter().enumerate() {
            if bind.operand == usize::MAX {
                continue;
            }
            // SAFETY: addresses lie inside the operands, tile buffers hold a tile, cells 8 bytes.
            unsafe {
                let address = self.address(bind.operand);
                let size = plan.resolved.operands[bind.operand].size;
                match bind.action {
                    BindAction::Point => self.pointers[bind.value] = address,
                    BindAction::Uniform => std::ptr::copy_nonoverlapping(address, self.pointers[bind.value], size),
                    BindAction::Gather(_, repeats) => {
                        if repeats && prefix && std::ptr::eq(self.collected[index], address) {
                            continue;
                        }
                        let (loops, axes) = self.against_tile(bind.operand);
                        copy_strided(self.pointers[bind.value], address, loops[..axes].iter().copied(), size);
                        self.collected[index] = if whole { address } else { std::ptr::null() };
                    }
                }
            }
        }
        if self.fresh {
            self.fresh = false;
            // Values that never change, spread over whole tiles whatever the size of this one.
            plan.resolved.once.iter().for_each(|step| self.step(step, plan.prepared.tile));
        }
        plan.resolved.steps.iter().for_each(|step| self.step(step, self.count));
    }

    /// Runs one step on `count` elements.
    fn step(&self, step: &Step, count: usize) {
        let plan = self.plan;
        match *step {
            Step::Compute { kernel, to, arguments: [a, b, c], one } => {
                let at = |value: usize| self.pointers[value] as *const u8;
                // SAFETY: values stand in cells (one element), tile buffers or operands (a tile); `to` is a buffer no
                // living value shares, or an argument's where the kernel allows it.
                unsafe { kernel(self.pointers[to], at(a), at(b), at(c), if one { 1 } else { count }) };
            }
            Step::Store { operand, from, direct } => {
                // SAFETY: the output's tile belongs to this task alone; equal addresses are an output stored to itself.
                unsafe {
                    let (to, from) = (self.address(operand), self.pointers[from] as *const u8);
                    let size = plan.resolved.operands[operand].size;
                    if std::ptr::eq(to, from) {
                    } else if direct {
                        std::ptr::copy_nonoverlapping(from, to, count * size);
                    } else {
                        let (loops, axes) = self.against_tile(operand);
                        let swapped = loops[..axes].iter().map(|&(extent, tile, memory)| (extent, memory, tile));
                        copy_strided(to, from, swapped, size);
                    }
                }
            }
            Step::Reduce { number, from } => {
                let layout = &plan.resolved.layout;
                let axes = (0..layout.axes).map(|axis| (self.extents[axis], layout.reduced[axis]));
                // SAFETY: the value is a tile of these extents, the accumulator has room for its kept positions.
                unsafe {
                    let acc = self.memory.add(plan.accumulator(number));
                    plan.prepared.reductions[number].fold(acc, self.pointers[from], axes);
                }
            }
        }
    }
}
