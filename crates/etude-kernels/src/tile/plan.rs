//! What one call decides once its sizes and strides are known: layout, uniform values, who writes straight to memory.

use super::kernels::{Kernel, Kernels, splat};
use super::layout::{Form, Layout, MAX_AXES, Operand, contiguous};
use super::prepare::{Kind, Node, Prepared};
use super::{Input, Scalar, Source};
use crate::Buffer;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock};

/// All that sizes, strides and offsets decide. Kept with the program for the next call, which mostly brings the same.
pub(super) struct Resolved {
    key: Key,
    pub layout: Layout,
    /// Inputs, then outputs.
    pub operands: Vec<Operand>,
    /// Bytes each operand's buffer must have.
    needed: Vec<usize>,
    /// What is placed at the start of each tile.
    pub binds: Vec<Bind>,
    /// What is done once a task: uniform values that never change.
    pub once: Vec<Step>,
    /// What is done for each tile.
    pub steps: Vec<Step>,
    /// Values, spread ones included.
    pub values: usize,
    /// Tile buffers: computed values, then loads, then spread values.
    pub slots: usize,
}

/// What a [`Resolved`] was made for.
struct Key {
    kept: Vec<usize>,
    reduced: Vec<usize>,
    /// Offset, and the output an in-place input stands for.
    inputs: Vec<(usize, Option<usize>)>,
    /// The inputs' strides, one after the other.
    strides: Vec<isize>,
}

impl Key {
    fn new(kept: &[usize], reduced: &[usize], inputs: &[Input]) -> Key {
        Key {
            kept: kept.to_vec(),
            reduced: reduced.to_vec(),
            inputs: inputs.iter().map(|input| (input.offset, input.source.output())).collect(),
            strides: inputs.iter().flat_map(|input| input.strides).copied().collect(),
        }
    }

    fn fits(&self, kept: &[usize], reduced: &[usize], inputs: &[Input]) -> bool {
        let rank = kept.len() + reduced.len();
        same(&self.kept, kept)
            && same(&self.reduced, reduced)
            && self.inputs.len() == inputs.len()
            && self.inputs.iter().zip(inputs).enumerate().all(|(number, (&(offset, output), input))| {
                let strides = &self.strides[number * rank..(number + 1) * rank];
                offset == input.offset && output == input.source.output() && same(strides, input.strides)
            })
    }
}

/// Whether two short lists are the same. `==` would call `memcmp`, which with AVX-512 reads even an empty list under a mask,
/// and where that list's address is no memory, as an empty vector's, takes two hundred cycles to find out.
fn same<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

impl Source<'_> {
    /// The output this stands for.
    fn output(&self) -> Option<usize> {
        match *self {
            Source::Buffer(_) => None,
            Source::Output(output) => Some(output),
        }
    }
}

/// Everything the tasks of one call share.
pub(super) struct Plan<'a> {
    pub prepared: &'a Prepared,
    pub resolved: &'a Resolved,
    /// The address of each operand's first element.
    pub bases: &'a [*mut u8],
    pub scalars: &'a [Scalar],
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

/// What a program's calls decided.
#[derive(Default)]
pub(super) struct Decided {
    /// By the first call, whose sizes mostly are every call's: found without a lock.
    first: OnceLock<Resolved>,
    /// By the last calls that were not like the first.
    others: Mutex<Vec<Arc<Resolved>>>,
}

/// How many others are kept: beside all rows, a tail has whole blocks of them and the last.
const KEPT: usize = 2;

/// One of [`Decided`].
pub(super) enum Decision<'a> {
    First(&'a Resolved),
    Other(Arc<Resolved>),
}

impl Deref for Decision<'_> {
    type Target = Resolved;
    fn deref(&self) -> &Resolved {
        match self {
            Decision::First(resolved) => resolved,
            Decision::Other(resolved) => resolved,
        }
    }
}

impl Prepared {
    /// What was decided for a call like this, now or earlier.
    pub(super) fn resolve(&self, kept: &[usize], reduced: &[usize], inputs: &[Input]) -> Decision<'_> {
        let first = self.decided.first.get_or_init(|| Resolved::new(self, kept, reduced, inputs));
        if first.key.fits(kept, reduced, inputs) {
            return Decision::First(first);
        }
        let mut others = self.decided.others.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(resolved) = others.iter().find(|resolved| resolved.key.fits(kept, reduced, inputs)) {
            return Decision::Other(resolved.clone());
        }
        if others.len() == KEPT {
            others.remove(0);
        }
        others.push(Arc::new(Resolved::new(self, kept, reduced, inputs)));
        Decision::Other(others[others.len() - 1].clone())
    }
}

impl Resolved {
    /// Whether every operand's elements stand one after the other, in the order of the iteration.
    pub(super) fn is_dense(&self) -> bool {
        let layout = &self.layout;
        let dense = |operand: &Operand| {
            let mut step = 1;
            (0..layout.axes).rev().all(|axis| {
                let fits = operand.strides[axis] == step;
                step *= layout.sizes[axis] as isize;
                fits
            })
        };
        self.operands.iter().all(dense)
    }

    /// Decides everything, and checks every bound on which the unsafe code rests, but for the buffers' sizes.
    fn new(prepared: &Prepared, kept: &[usize], reduced: &[usize], inputs: &[Input]) -> Resolved {
        let program = &prepared.program;
        let folds = !prepared.reductions.is_empty();
        let rank = kept.len() + reduced.len();
        let all = || kept.iter().chain(reduced).copied();
        let axes: usize = all().filter(|&size| size != 1).count();
        assert!(axes <= MAX_AXES, "tile program over {axes} axes; {MAX_AXES} are supported");
        assert_eq!(inputs.len(), program.inputs.len(), "tile program: number of inputs");

        // Axes of size 1 play no part.
        let mut sizes = [1; MAX_AXES];
        all().filter(|&size| size != 1).enumerate().for_each(|(axis, size)| sizes[axis] = size);
        let sizes = &sizes[..axes];
        let first_reduced = kept.iter().filter(|&&size| size != 1).count();
        let folded = &prepared.folded;
        let product = |sizes: &[usize]| {
            sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).expect("tile program: size overflows")
        };
        let (total, outer) = (product(sizes), product(&sizes[..first_reduced]));
        let whole = contiguous(sizes, |_| true);
        let partial = contiguous(sizes, |axis| axis < first_reduced);
        let (mut operands, mut needed) = (Vec::new(), Vec::new());

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
            if let Source::Output(output) = input.source {
                assert!(
                    output < folded.len()
                        && !folded[output]
                        && input.offset == 0
                        && strides == whole
                        && program.outputs[output].size() == dtype.size(),
                    "tile program, input {number}: an in-place input stands exactly where its output does"
                );
            }
            let bytes = usize::try_from((high + 1) * dtype.size() as i128);
            assert!(low >= 0 && bytes.is_ok(), "tile program, input {number}: reaches outside of its buffer");
            needed.push(bytes.unwrap_or(usize::MAX));
            operands.push(Operand { strides, size: dtype.size(), folded: false });
        }
        for (&folded, dtype) in folded.iter().zip(&program.outputs) {
            let (elements, strides) = if folded { (outer, partial) } else { (total, whole) };
            needed.push(elements.checked_mul(dtype.size()).expect("tile program: size overflows"));
            operands.push(Operand { strides, size: dtype.size(), folded });
        }

        let shape = sizes.iter().enumerate().map(|(axis, &size)| (size, folds && axis >= first_reduced));
        let layout = Layout::new(shape, &mut operands, folds, prepared.tile);
        let values = prepared.values.len();
        let mut resolver = Resolver {
            prepared,
            inputs,
            resolved: Resolved {
                key: Key::new(kept, reduced, inputs),
                layout,
                needed,
                binds: Vec::new(),
                once: Vec::new(),
                steps: Vec::new(),
                values,
                slots: prepared.slots,
                operands,
            },
            uniform: vec![(false, false); values],
            spread: Vec::new(),
            direct: vec![false; values],
            written: vec![usize::MAX; folded.len()],
            pointed: vec![false; folded.len()],
        };
        resolver.resolve();
        resolver.resolved
    }

    /// Writes the address of each operand's first element to `bases`, once the buffers are found large enough.
    pub(super) fn place(&self, bases: &mut [*mut u8], inputs: &[Input], outputs: &mut [&mut Buffer]) {
        assert_eq!(inputs.len() + outputs.len(), bases.len(), "tile program: number of outputs");
        for (number, input) in inputs.iter().enumerate() {
            let (base, bytes) = match input.source {
                Source::Buffer(buffer) => (buffer.as_slice::<u8>().as_ptr() as *mut u8, buffer.bytes()),
                Source::Output(output) => (outputs[output].as_mut_slice::<u8>().as_mut_ptr(), outputs[output].bytes()),
            };
            assert!(bytes >= self.needed[number], "tile program, input {number}: reaches outside of its buffer");
            // SAFETY: the offset lies inside the buffer, which reaches beyond it.
            bases[number] = unsafe { base.add(input.offset * self.operands[number].size) };
        }
        for (number, buffer) in outputs.iter_mut().enumerate() {
            let operand = inputs.len() + number;
            assert!(buffer.bytes() >= self.needed[operand], "tile program, output {number}: buffer too small");
            bases[operand] = buffer.as_mut_slice::<u8>().as_mut_ptr();
        }
    }
}

/// A [`Resolved`] in the making.
struct Resolver<'a> {
    prepared: &'a Prepared,
    inputs: &'a [Input<'a>],
    resolved: Resolved,
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

impl Resolver<'_> {
    /// The form of operand `operand`'s tiles.
    fn form(&self, operand: usize) -> Form {
        self.resolved.layout.form(&self.resolved.operands[operand])
    }

    /// Turns nodes into binds and steps.
    fn resolve(&mut self) {
        self.find_uniform();
        self.write_straight();
        for node in &self.prepared.nodes {
            match *node {
                Node::Load { to, input } => self.load(to, input),
                Node::Scalar { .. } => {}
                Node::Compute { kernels, to, arguments, kind, .. } => self.compute(&kernels, to, arguments, kind),
                Node::Store { output, from } => {
                    let operand = self.inputs.len() + output;
                    if !self.resolved.binds.iter().any(|bind| bind.value == from && bind.operand == operand) {
                        let from = self.whole_tile(from);
                        let direct = self.form(operand) == Form::Direct;
                        self.resolved.steps.push(Step::Store { operand, from, direct });
                    }
                }
                Node::Reduce { number, from, .. } => {
                    let from = self.whole_tile(from);
                    self.resolved.steps.push(Step::Reduce { number, from });
                }
            }
        }
    }

    /// Finds which values are one element a tile.
    fn find_uniform(&mut self) {
        for node in &self.prepared.nodes {
            match *node {
                Node::Load { to, input } => {
                    let one = self.form(input) == Form::Uniform;
                    let strides = &self.resolved.operands[input].strides[..self.resolved.layout.axes];
                    self.uniform[to] = (one, one && strides.iter().all(|&stride| stride == 0));
                }
                Node::Scalar { to, .. } => self.uniform[to] = (true, true),
                Node::Compute { to, .. } => {
                    let uniform = &self.uniform;
                    let each = |(one, same): (bool, bool), &v: &usize| (one && uniform[v].0, same && uniform[v].1);
                    self.uniform[to] = node.reads().iter().fold((true, true), each);
                }
                _ => {}
            }
        }
    }

    /// Lets the producers of stored values write to memory where they can, and notes when each output is written.
    fn write_straight(&mut self) {
        for (index, node) in self.prepared.nodes.iter().enumerate() {
            if let Node::Store { output, from } = *node {
                self.written[output] = index;
                let operand = self.inputs.len() + output;
                if let Some(producer) = self.prepared.values[from].producer
                    && !self.uniform[from].0
                    && !self.direct[from]
                    && self.form(operand) == Form::Direct
                {
                    self.direct[from] = true;
                    self.written[output] = producer;
                    self.resolved.binds.push(Bind { value: from, operand, action: BindAction::Point });
                }
            }
        }
    }

    /// Places input `input` as value `to`.
    fn load(&mut self, to: usize, input: usize) {
        let (hazard, output) = match self.inputs[input].source {
            Source::Buffer(_) => (false, None),
            Source::Output(output) => {
                // The old value must not be read after the new one is written, or in the same step unless the kernel
                // works in place; and a kernel writes over one argument at most.
                let (last, write) = (self.prepared.values[to].last_use, self.written[output]);
                let spoilt = last > write || (last == write && !self.overwrites(write, to));
                (spoilt || self.pointed[output], Some(output))
            }
        };
        let action = match self.form(input) {
            Form::Uniform => BindAction::Uniform,
            Form::Direct if !hazard => {
                if let Some(output) = output {
                    self.pointed[output] = true;
                }
                BindAction::Point
            }
            _ => {
                self.resolved.slots += 1;
                BindAction::Gather(self.resolved.slots - 1, output.is_none())
            }
        };
        self.resolved.binds.push(Bind { value: to, operand: input, action });
    }

    /// Chooses the kernel of a computation.
    fn compute(&mut self, kernels: &Kernels, to: usize, mut arguments: [usize; 3], kind: Kind) {
        let (one, invariant) = self.uniform[to];
        if one {
            // Of one element each, uniform arguments are whole tiles.
            self.push(invariant, Step::Compute { kernel: kernels.tiles, to, arguments, one });
            return;
        }
        let first = (kind == Kind::Select) as usize;
        let kernel = match kernels.uniform {
            Some(forms) => {
                let patterns = arguments[first..kind.arguments()].iter().enumerate();
                forms[patterns.map(|(place, &v)| (self.uniform[v].0 as usize) << place).sum::<usize>()]
            }
            None => kernels.tiles,
        };
        for (place, argument) in arguments[..kind.arguments()].iter_mut().enumerate() {
            if self.uniform[*argument].0 && (kernels.uniform.is_none() || place < first) {
                *argument = self.spread(*argument);
            }
        }
        self.resolved.steps.push(Step::Compute { kernel, to, arguments, one });
    }

    /// Adds a step, once a task if its result never changes.
    fn push(&mut self, invariant: bool, step: Step) {
        if invariant { self.resolved.once.push(step) } else { self.resolved.steps.push(step) }
    }

    /// The number of a value that holds `value` in every place of a tile.
    fn whole_tile(&mut self, value: usize) -> usize {
        let tile_is_one = self.resolved.layout.first_blocked == self.resolved.layout.axes;
        if self.uniform[value].0 && !tile_is_one { self.spread(value) } else { value }
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
        if let Some(&(_, copy)) = self.spread.iter().find(|pair| pair.0 == value) {
            return copy;
        }
        let copy = self.resolved.values;
        self.resolved.values += 1;
        self.resolved.slots += 1;
        self.spread.push((value, copy));
        let action = BindAction::Gather(self.resolved.slots - 1, true);
        self.resolved.binds.push(Bind { value: copy, operand: usize::MAX, action });
        let kernel = splat(self.prepared.values[value].dtype.size());
        let step = Step::Compute { kernel, to: copy, arguments: [value; 3], one: false };
        self.push(self.uniform[value].1, step);
        copy
    }
}
