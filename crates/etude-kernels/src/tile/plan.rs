//! What one call decides once its sizes and strides are known: layout, uniform values, who writes straight to memory.

use super::kernels::{Kernel, splat};
use super::layout::{Form, Layout, MAX_AXES, Operand, contiguous};
use super::prepare::{Kind, Node, Prepared};
use super::{Input, Scalar, Source};
use crate::Buffer;

/// Everything the tasks of one call share.
pub(super) struct Plan<'a> {
    pub prepared: &'a Prepared,
    pub layout: Layout,
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
    /// Values, spread ones included.
    pub values: usize,
    /// Tile buffers: computed values, then loads, then spread values.
    pub slots: usize,
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
        let mut operands = Vec::with_capacity(inputs.len() + outputs.len());
        let mut bases = Vec::with_capacity(inputs.len() + outputs.len());
        let mut folded = vec![false; outputs.len()];
        for node in &prepared.nodes {
            if let Node::Reduce { output, .. } = *node {
                folded[output] = true;
            }
        }
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
        let layout = Layout::new(shape, &mut operands, folds, prepared.tile);
        let mut plan = Plan {
            prepared,
            layout,
            operands,
            bases,
            binds: Vec::with_capacity(inputs.len() + outputs.len()),
            once: Vec::new(),
            steps: Vec::with_capacity(prepared.nodes.len()),
            scalars: Vec::new(),
            values: prepared.values.len(),
            slots: prepared.slots,
        };
        plan.resolve(inputs, scalars);
        plan
    }

    /// Turns nodes into binds and steps.
    fn resolve(&mut self, inputs: &[Input], scalars: &[Scalar]) {
        let nodes = &self.prepared.nodes;
        // Whether a value is one element a tile, and whether it is the same for every tile.
        let mut uniform = vec![(false, false); self.values];
        let mut producer = vec![usize::MAX; self.values];
        // The spread copy of a uniform value, once there is one.
        let mut spread: Vec<(usize, usize)> = Vec::new();
        // Loads are placed last, when it is known which outputs are written when.
        for (index, node) in nodes.iter().enumerate() {
            match *node {
                Node::Load { to, input } => {
                    let operand = &self.operands[input];
                    let one = self.layout.form(operand) == Form::Uniform;
                    uniform[to] = (one, one && operand.strides[..self.layout.axes].iter().all(|&s| s == 0));
                }
                Node::Scalar { to, index } => {
                    let value =
                        scalars.get(index).unwrap_or_else(|| panic!("tile program: there is no scalar {index}"));
                    self.scalars.push((to, value.bytes(self.prepared.values[to].dtype)));
                    uniform[to] = (true, true);
                }
                Node::Compute { to, .. } => {
                    let reads = node.reads();
                    uniform[to] = (reads.iter().all(|&v| uniform[v].0), reads.iter().all(|&v| uniform[v].1));
                    producer[to] = index;
                }
                _ => {}
            }
        }
        // A store whose value is computed lets the producer write to memory; `written` says when an output changes.
        let mut direct = vec![false; self.values];
        let mut written = vec![usize::MAX; self.operands.len()];
        for (index, node) in nodes.iter().enumerate() {
            if let Node::Store { output, from } = *node {
                let operand = inputs.len() + output;
                written[operand] = index;
                let computed = producer[from] != usize::MAX && !uniform[from].0 && !direct[from];
                if computed && self.layout.form(&self.operands[operand]) == Form::Direct {
                    direct[from] = true;
                    written[operand] = producer[from];
                    self.binds.push(Bind { value: from, operand, action: BindAction::Point });
                }
            }
        }
        // Outputs that some input stands in for.
        let mut pointed = vec![false; self.operands.len() - inputs.len()];
        let tile_is_one = self.layout.first_blocked == self.layout.axes;
        for node in nodes {
            match *node {
                Node::Load { to, input } => {
                    let hazard = match inputs[input].source {
                        Source::Buffer(_) => false,
                        Source::Output(output) => {
                            let (last, write) = (self.prepared.values[to].last_use, written[inputs.len() + output]);
                            // A kernel writes over one argument at most.
                            last > write || (last == write && !self.overwrites(write, to)) || pointed[output]
                        }
                    };
                    let in_place = matches!(inputs[input].source, Source::Output(_));
                    let action = match self.layout.form(&self.operands[input]) {
                        Form::Uniform => BindAction::Uniform,
                        Form::Direct if !hazard => {
                            if let Source::Output(output) = inputs[input].source {
                                pointed[output] = true;
                            }
                            BindAction::Point
                        }
                        _ => {
                            self.slots += 1;
                            BindAction::Gather(self.slots - 1, !in_place)
                        }
                    };
                    self.binds.push(Bind { value: to, operand: input, action });
                }
                Node::Scalar { .. } => {}
                Node::Compute { kernels, to, mut arguments, kind } => {
                    if uniform[to].0 {
                        // Of one element each, uniform arguments are whole tiles.
                        let step = Step::Compute { kernel: kernels.tiles, to, arguments, one: true };
                        if uniform[to].1 {
                            self.once.push(step)
                        } else {
                            self.steps.push(step)
                        }
                        continue;
                    }
                    let first = (kind == Kind::Select) as usize;
                    let kernel = match kernels.uniform {
                        Some(forms) => {
                            let bit = |place: usize| uniform[arguments[place]].0 as usize;
                            forms[bit(first) | bit(first + 1) << 1]
                        }
                        None => kernels.tiles,
                    };
                    for (place, argument) in arguments[..kind.arguments()].iter_mut().enumerate() {
                        if uniform[*argument].0 && (kernels.uniform.is_none() || place < first) {
                            *argument = self.spread(*argument, uniform[*argument].1, &mut spread);
                        }
                    }
                    self.steps.push(Step::Compute { kernel, to, arguments, one: false });
                }
                Node::Store { output, from } => {
                    let operand = inputs.len() + output;
                    let stored = self.binds.iter().any(|bind| bind.value == from && bind.operand == operand);
                    if stored {
                        continue;
                    }
                    let one = uniform[from].0 && !tile_is_one;
                    let from = if one { self.spread(from, uniform[from].1, &mut spread) } else { from };
                    let direct = self.layout.form(&self.operands[operand]) == Form::Direct;
                    self.steps.push(Step::Store { operand, from, direct });
                }
                Node::Reduce { number, from, .. } => {
                    let one = uniform[from].0 && !tile_is_one;
                    let from = if one { self.spread(from, uniform[from].1, &mut spread) } else { from };
                    self.steps.push(Step::Reduce { number, from });
                }
            }
        }
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
    fn spread(&mut self, value: usize, invariant: bool, known: &mut Vec<(usize, usize)>) -> usize {
        if let Some(&(_, copy)) = known.iter().find(|pair| pair.0 == value) {
            return copy;
        }
        let copy = self.values;
        self.values += 1;
        self.slots += 1;
        known.push((value, copy));
        self.binds.push(Bind { value: copy, operand: usize::MAX, action: BindAction::Gather(self.slots - 1, true) });
        let kernel = splat(self.prepared.values[value].dtype.size());
        let step = Step::Compute { kernel, to: copy, arguments: [value; 3], one: false };
        if invariant {
            self.once.push(step)
        } else {
            self.steps.push(step)
        }
        copy
    }
}
