//! What one call decides once its sizes and strides are known: layout, uniform values, who writes straight to memory.

use super::kernels::{Kernel, Kernels, splat};
use super::layout::{Form, Layout, MAX_AXES, Operand, contiguous};
use super::prepare::{Kind, Node, Prepared};
use super::{Input, Scalar, Source};
use crate::Buffer;
use std::cell::Cell;

/// Everything the tasks of one call share.
pub(super) struct Plan<'a> {
    pub prepared: &'a Prepared,
    pub layout: Layout,
    /// The lists below, whose memory is kept from call to call.
    pub lists: Lists,
    /// Values, spread ones included.
    pub values: usize,
    /// Tile buffers: computed values, then loads, then spread values.
    pub slots: usize,
}

/// The lists of a plan, and those used to make it.
#[derive(Default)]
pub(super) struct Lists {
    /// Inputs, then outputs.
    pub operands: Vec<Operand>,
    /// The address of each operand's first element.
    pub bases: Vec<*mut u8>,
    /// What is placed at the start of each tile.
    pub binds: Vec<Bind>,
    /// What is done once a task: uniform values that never change.
    pub once: Vec<Step>,
    /// What is done for each tile.
    pub steps: Vec<Step>,
    /// Scalars: value and bytes.
    pub scalars: Vec<(usize, [u8; 8])>,
    /// For each value, whether it is one element a tile, and whether it is the same for every tile.
    uniform: Vec<(bool, bool)>,
    /// Pairs of a uniform value and its copy that is spread over tiles.
    spread: Vec<(usize, usize)>,
    /// Whether a value's producer writes straight to an output.
    direct: Vec<bool>,
    /// For each output, the node that writes it.
    written: Vec<usize>,
    /// Whether some input stands in for the output.
    pointed: Vec<bool>,
}

impl Lists {
    /// The lists of an earlier call on this thread, empty.
    fn take() -> Lists {
        let mut lists = KEPT.take().unwrap_or_default();
        lists.operands.clear();
        lists.bases.clear();
        lists.binds.clear();
        lists.once.clear();
        lists.steps.clear();
        lists.scalars.clear();
        lists.uniform.clear();
        lists.spread.clear();
        lists.direct.clear();
        lists.written.clear();
        lists.pointed.clear();
        lists
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        KEPT.set(Some(std::mem::take(&mut self.lists)));
    }
}

thread_local! {
    static KEPT: Cell<Option<Lists>> = const { Cell::new(None) };
}

// SAFETY: the pointers are to the operands of the call, which outlive it; tasks write disjoint parts of the outputs and
// read the inputs, which nothing else writes (in-place inputs: at the positions the same task then writes).
unsafe impl Sync for Plan<'_> {}

/// Where a value stands before the steps run.
pub(super) struct Bind {
    pub value: usize,
    pub operand: usize,
    pub action: BindAction,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BindAction {
    /// The value is the memory itself.
    Point,
    /// The one element is copied to the value's cell.
    Uniform,
    /// The tile is collected into tile buffer `.0`; with `.1`, not again while it would be the same.
    Gather(usize, bool),
}

/// One thing to do with a tile.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Runs a kernel, on one element if `one`.
    Compute { kernel: Kernel, to: usize, arguments: [usize; 3], one: bool },
    /// Writes a value to an output.
    Store { operand: usize, from: usize, direct: bool },
    /// Folds a value into accumulator `number`.
    Reduce { number: usize, from: usize },
}

impl<'a> Plan<'a> {
    /// Decides everything, and checks every bound on which the unsafe code rests.
    pub(super) fn new(
        prepared: &'a Prepared,
        kept: &[usize],
        reduced: &[usize],
        inputs: &[Input],
        scalars: &[Scalar],
        outputs: &mut [&mut Buffer],
    ) -> Plan<'a> {
        let program = &prepared.program;
        let folds = !prepared.reductions.is_empty();
        let rank = kept.len() + reduced.len();
        let all = || kept.iter().chain(reduced).copied();
        let axes: usize = all().filter(|&size| size != 1).count();
        assert!(axes <= MAX_AXES, "tile program over {axes} axes; {MAX_AXES} are supported");
        assert_eq!(inputs.len(), program.inputs.len(), "tile program: number of inputs");
        assert_eq!(outputs.len(), program.outputs.len(), "tile program: number of outputs");

        // Outputs first: their strides over the axes that are not 1.
        let mut sizes = [1; MAX_AXES];
        all().filter(|&size| size != 1).enumerate().for_each(|(axis, size)| sizes[axis] = size);
        let sizes = &sizes[..axes];
        let first_reduced = kept.iter().filter(|&&size| size != 1).count();
        let mut lists = Lists::take();
        let Lists { operands, bases, .. } = &mut lists;
        let folded = &prepared.folded;
        let product = |sizes: &[usize]| {
            sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).expect("tile program: size overflows")
        };
        let (total, outer) = (product(sizes), product(&sizes[..first_reduced]));
        let whole = contiguous(sizes, |_| true);
        let partial = contiguous(sizes, |axis| axis < first_reduced);

        for (number, (input, dtype)) in inputs.iter().zip(&program.inputs).enumerate() {
            assert_eq!(input.strides.len(), rank, "tile program, input {number}: one stride for each axis");
            let mut strides = [0; MAX_AXES];
            let steps = all().zip(input.strides).filter(|(size, _)| *size != 1).map(|(_, &stride)| stride);
            steps.enumerate().for_each(|(axis, stride)| strides[axis] = stride);
            let (mut low, mut high) = (input.offset as i128, input.offset as i128);
            for (&size, &stride) in sizes.iter().zip(&strides) {
                let reach = (size as i128 - 1) * stride as i128;
                if reach < 0 { low += reach } else { high += reach }
            }
            let (base, elements) = match input.source {
                Source::Buffer(buffer) => (buffer.as_slice::<u8>().as_ptr() as *mut u8, buffer.bytes() / dtype.size()),
                Source::Output(output) => {
                    assert!(
                        output < outputs.len()
                            && !folded[output]
                            && input.offset == 0
                            && strides == whole
                            && program.outputs[output].size() == dtype.size(),
                        "tile program, input {number}: an in-place input stands exactly where its output does"
                    );
                    let buffer = &mut outputs[output];
                    (buffer.as_mut_slice::<u8>().as_mut_ptr(), buffer.bytes() / dtype.size())
                }
            };
            assert!(low >= 0 && high < elements as i128, "tile program, input {number}: reaches outside of its buffer");
            // SAFETY: the offset was found to lie inside the buffer.
            bases.push(unsafe { base.add(input.offset * dtype.size()) });
            operands.push(Operand { strides, size: dtype.size(), folded: false });
        }
        for (number, (buffer, dtype)) in outputs.iter_mut().zip(&program.outputs).enumerate() {
            let elements = if folded[number] { outer } else { total };
            assert!(buffer.bytes() / dtype.size() >= elements, "tile program, output {number}: buffer too small");
            bases.push(buffer.as_mut_slice::<u8>().as_mut_ptr());
            let strides = if folded[number] { partial } else { whole };
            operands.push(Operand { strides, size: dtype.size(), folded: folded[number] });
        }

        let shape = sizes.iter().enumerate().map(|(axis, &size)| (size, folds && axis >= first_reduced));
        let layout = Layout::new(shape, operands, folds, prepared.tile);
        let mut plan = Plan { prepared, layout, lists, values: prepared.values.len(), slots: prepared.slots };
        plan.resolve(inputs, scalars);
        plan
    }

    /// Turns nodes into binds and steps.
    fn resolve(&mut self, inputs: &[Input], scalars: &[Scalar]) {
        self.find_uniform(scalars);
        self.write_straight(inputs.len());
        for node in &self.prepared.nodes {
            match *node {
                Node::Load { to, input } => self.load(to, input, inputs),
                Node::Scalar { .. } => {}
                Node::Compute { kernels, to, arguments, kind } => self.compute(&kernels, to, arguments, kind),
                Node::Store { output, from } => {
                    let operand = inputs.len() + output;
                    if !self.lists.binds.iter().any(|bind| bind.value == from && bind.operand == operand) {
                        let from = self.whole_tile(from);
                        let direct = self.layout.form(&self.lists.operands[operand]) == Form::Direct;
                        self.lists.steps.push(Step::Store { operand, from, direct });
                    }
                }
                Node::Reduce { number, from, .. } => {
                    let from = self.whole_tile(from);
                    self.lists.steps.push(Step::Reduce { number, from });
                }
            }
        }
    }

    /// Finds which values are one element a tile, and notes the scalars.
    fn find_uniform(&mut self, scalars: &[Scalar]) {
        let Lists { operands, uniform, scalars: noted, direct, .. } = &mut self.lists;
        uniform.resize(self.values, (false, false));
        direct.resize(self.values, false);
        for node in &self.prepared.nodes {
            match *node {
                Node::Load { to, input } => {
                    let operand = &operands[input];
                    let one = self.layout.form(operand) == Form::Uniform;
                    uniform[to] = (one, one && operand.strides[..self.layout.axes].iter().all(|&s| s == 0));
                }
                Node::Scalar { to, index } => {
                    let value =
                        scalars.get(index).unwrap_or_else(|| panic!("tile program: there is no scalar {index}"));
                    noted.push((to, value.bytes(self.prepared.values[to].dtype)));
                    uniform[to] = (true, true);
                }
                Node::Compute { to, .. } => {
                    let each = |(one, same): (bool, bool), &v: &usize| (one && uniform[v].0, same && uniform[v].1);
                    uniform[to] = node.reads().iter().fold((true, true), each);
                }
                _ => {}
            }
        }
    }

    /// Lets the producers of stored values write to memory where they can, and notes when each output is written.
    fn write_straight(&mut self, inputs: usize) {
        let Lists { operands, binds, uniform, direct, written, pointed, .. } = &mut self.lists;
        written.resize(operands.len() - inputs, usize::MAX);
        pointed.resize(operands.len() - inputs, false);
        for (index, node) in self.prepared.nodes.iter().enumerate() {
            if let Node::Store { output, from } = *node {
                written[output] = index;
                let operand = inputs + output;
                if let Some(producer) = self.prepared.values[from].producer
                    && !uniform[from].0
                    && !direct[from]
                    && self.layout.form(&operands[operand]) == Form::Direct
                {
                    direct[from] = true;
                    written[output] = producer;
                    binds.push(Bind { value: from, operand, action: BindAction::Point });
                }
            }
        }
    }

    /// Places input `input` as value `to`.
    fn load(&mut self, to: usize, input: usize, inputs: &[Input]) {
        let (hazard, output) = match inputs[input].source {
            Source::Buffer(_) => (false, None),
            Source::Output(output) => {
                // The old value must not be read after the new one is written, or in the same step unless the kernel
                // works in place; and a kernel writes over one argument at most.
                let (last, write) = (self.prepared.values[to].last_use, self.lists.written[output]);
                let spoilt = last > write || (last == write && !self.overwrites(write, to));
                (spoilt || self.lists.pointed[output], Some(output))
            }
        };
        let action = match self.layout.form(&self.lists.operands[input]) {
            Form::Uniform => BindAction::Uniform,
            Form::Direct if !hazard => {
                if let Some(output) = output {
                    self.lists.pointed[output] = true;
                }
                BindAction::Point
            }
            _ => {
                self.slots += 1;
                BindAction::Gather(self.slots - 1, output.is_none())
            }
        };
        self.lists.binds.push(Bind { value: to, operand: input, action });
    }

    /// Chooses the kernel of a computation.
    fn compute(&mut self, kernels: &Kernels, to: usize, mut arguments: [usize; 3], kind: Kind) {
        let (one, invariant) = self.lists.uniform[to];
        if one {
            // Of one element each, uniform arguments are whole tiles.
            self.push(invariant, Step::Compute { kernel: kernels.tiles, to, arguments, one });
            return;
        }
        let first = (kind == Kind::Select) as usize;
        let kernel = match kernels.uniform {
            Some(forms) => {
                let bit = |place: usize| self.lists.uniform[arguments[place]].0 as usize;
                forms[bit(first) | bit(first + 1) << 1]
            }
            None => kernels.tiles,
        };
        for (place, argument) in arguments[..kind.arguments()].iter_mut().enumerate() {
            if self.lists.uniform[*argument].0 && (kernels.uniform.is_none() || place < first) {
                *argument = self.spread(*argument);
            }
        }
        self.lists.steps.push(Step::Compute { kernel, to, arguments, one });
    }

    /// Adds a step, once a task if its result never changes.
    fn push(&mut self, invariant: bool, step: Step) {
        if invariant { self.lists.once.push(step) } else { self.lists.steps.push(step) }
    }

    /// The number of a value that holds `value` in every place of a tile.
    fn whole_tile(&mut self, value: usize) -> usize {
        let tile_is_one = self.layout.first_blocked == self.layout.axes;
        if self.lists.uniform[value].0 && !tile_is_one { self.spread(value) } else { value }
    }

    /// Whether node `index` may write its result over `value` while it reads it.
    fn overwrites(&self, index: usize, value: usize) -> bool {
        let node = &self.prepared.nodes[index];
        match node {
            // Storing the old value where it already is: nothing to be spoilt.
            Node::Store { .. } => true,
            _ => node.in_place(value, &self.prepared.values),
        }
    }

    /// The number of a value that holds uniform `value` in every place of a tile.
    fn spread(&mut self, value: usize) -> usize {
        if let Some(&(_, copy)) = self.lists.spread.iter().find(|pair| pair.0 == value) {
            return copy;
        }
        let copy = self.values;
        self.values += 1;
        self.slots += 1;
        self.lists.spread.push((value, copy));
        let action = BindAction::Gather(self.slots - 1, true);
        self.lists.binds.push(Bind { value: copy, operand: usize::MAX, action });
        let kernel = splat(self.prepared.values[value].dtype.size());
        let step = Step::Compute { kernel, to: copy, arguments: [value; 3], one: false };
        self.push(self.lists.uniform[value].1, step);
        copy
    }
}
