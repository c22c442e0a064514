//! Checking a program, and all that can be decided about it before sizes and strides are known.

use super::adam::{self, Adam};
use super::fused::fused_kernels;
use super::kernels::Kernels;
use super::layout::tile_size;
use super::plan::Decided;
use super::reduce::{Reduction, reduction};
use super::table::{binary_cost, binary_kernels, cast_kernels, select_kernels, unary_cost, unary_kernels};
use super::{BinaryOp, Instruction, Program, Register};
use crate::DType;
use std::sync::Arc;

/// Registers a program may use.
pub const MAX_REGISTERS: usize = 64;

/// A checked program with its kernels chosen and its registers placed: what a plan keeps and runs.
///
/// ```
/// # use etude_kernels::{Buffer, DType, tile::*};
/// let double = Program {
///     instructions: vec![
///         Instruction::Load { to: 0, input: 0 },
///         Instruction::Binary { op: BinaryOp::Add, dtype: DType::F32, to: 1, a: 0, b: 0 },
///         Instruction::Store { output: 0, from: 1 },
///     ],
///     inputs: vec![DType::F32],
///     outputs: vec![DType::F32],
/// };
/// let double = double.prepare()?;
/// let (x, mut y) = (Buffer::from_slice(&[1f32, 2.0, 3.0]), Buffer::zeroed(12));
/// let input = Input { source: Source::Buffer(&x), offset: 0, strides: &[1] };
/// double.run(&[3], &[], &[input], &[], &mut [&mut y]);
/// assert_eq!(y.as_slice::<f32>(), [2.0, 4.0, 6.0]);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone)]
pub struct Prepared {
    pub(super) program: Program,
    /// The values instructions make, in order: each is written once, however registers are reused.
    pub(super) values: Vec<Value>,
    /// What is done, without what nobody reads.
    pub(super) nodes: Vec<Node>,
    /// How many tile buffers the values need, loads apart.
    pub(super) slots: usize,
    /// Elements of a tile.
    pub(super) tile: usize,
    /// Bytes of the largest element.
    pub(super) largest: usize,
    /// How many scalars a call must bring.
    pub(super) scalars: usize,
    /// What calls decided.
    pub(super) decided: Arc<Decided>,
    /// Whether each output is a reduction.
    pub(super) folded: Vec<bool>,
    /// Simple instructions an element costs, roughly.
    pub(super) cost: usize,
    /// The reductions, in the order of their nodes.
    pub(super) reductions: Vec<Reduction>,
    /// The program as a step of Adam, if it is one.
    pub(super) adam: Option<Adam>,
}

/// One result of one instruction.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub dtype: DType,
    /// The last node that reads it.
    pub last_use: usize,
    /// The tile buffer it lives in, if it is computed.
    pub slot: usize,
    /// The node that computes it, if one does.
    pub producer: Option<usize>,
}

/// One thing to do; arguments are numbers of values.
#[derive(Clone, Copy)]
pub(super) enum Node {
    Load {
        to: usize,
        input: usize,
    },
    Scalar {
        to: usize,
        index: usize,
    },
    Compute {
        /// The operation, if it is f32 arithmetic that may be fused.
        op: Option<BinaryOp>,
        kernels: Kernels,
        to: usize,
        arguments: [usize; 3],
        kind: Kind,
    },
    Store {
        output: usize,
        from: usize,
    },
    Reduce {
        number: usize,
        output: usize,
        from: usize,
    },
}

/// How a computation treats its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    Binary,
    /// Condition first.
    Select,
    /// Two binary operations in one, see [`super::fused`].
    Fused,
}

impl Kind {
    /// How many arguments there are.
    pub(super) fn arguments(self) -> usize {
        match self {
            Kind::Unary => 1,
            Kind::Binary => 2,
            Kind::Select | Kind::Fused => 3,
        }
    }
}

impl Program {
    /// Checks that registers are written before they are read, that dtypes agree and that every output is written
    /// once; the message says which instruction is at fault.
    pub fn check(&self) -> Result<(), String> {
        self.clone().prepare().map(|_| ())
    }

    /// Checks the program and chooses its kernels. Done once, when a plan is compiled.
    pub fn prepare(self) -> Result<Prepared, String> {
        let mut builder = Builder { registers: [None; MAX_REGISTERS], values: Vec::new(), nodes: Vec::new() };
        let (mut reductions, mut written) = (Vec::new(), vec![false; self.outputs.len()]);
        for (number, instruction) in self.instructions.iter().enumerate() {
            builder
                .add(*instruction, &self, &mut reductions, &mut written)
                .map_err(|message| format!("tile program, instruction {number} ({instruction:?}): {message}"))?;
        }
        if let Some(output) = written.iter().position(|&done| !done) {
            return Err(format!("tile program: output {output} is never written"));
        }
        let Builder { mut values, mut nodes, .. } = builder;
        drop_unread(&mut values, &mut nodes);
        fuse(&values, &mut nodes);
        drop_unread(&mut values, &mut nodes);
        let slots = place(&mut values, &nodes);
        let largest = values.iter().map(|v| v.dtype).max_by_key(|d| d.size()).unwrap_or(DType::F32);
        let loads = nodes.iter().filter(|n| matches!(n, Node::Load { .. })).count();
        let costs = self.instructions.iter().map(|instruction| match *instruction {
            Instruction::Scalar { .. } => 0,
            Instruction::Unary { op, .. } => unary_cost(op),
            Instruction::Binary { op, .. } => binary_cost(op),
            _ => 1,
        });
        let mut folded = vec![false; self.outputs.len()];
        for node in &nodes {
            if let Node::Reduce { output, .. } = *node {
                folded[output] = true;
            }
        }
        let scalars = nodes.iter().filter_map(|node| match *node {
            Node::Scalar { index, .. } => Some(index.saturating_add(1)),
            _ => None,
        });
        let scalars = scalars.max().unwrap_or(0);
        Ok(Prepared {
            folded,
            scalars,
            decided: Arc::default(),
            cost: costs.sum::<usize>().max(1),
            tile: tile_size(slots + loads + self.outputs.len(), largest),
            largest: largest.size(),
            adam: adam::recognise(&self),
            program: self,
            values,
            nodes,
            reductions,
            slots,
        })
    }
}

/// The state of translating registers, which may be written again, to values, which are not.
struct Builder {
    registers: [Option<usize>; MAX_REGISTERS],
    values: Vec<Value>,
    nodes: Vec<Node>,
}

impl Builder {
    /// The value register `register` holds, if its dtype is `dtype`.
    fn read(&self, register: Register, dtype: DType) -> Result<usize, String> {
        let held = self.registers.get(register as usize).copied().flatten();
        let value = held.ok_or_else(|| format!("register {register} is read before it is written"))?;
        match self.values[value].dtype {
            found if found == dtype => Ok(value),
            found => Err(format!("register {register} holds {found}, not {dtype}")),
        }
    }

    /// The dtype of what register `register` holds.
    fn dtype(&self, register: Register) -> Result<DType, String> {
        let held = self.registers.get(register as usize).copied().flatten();
        held.map(|value| self.values[value].dtype)
            .ok_or_else(|| format!("register {register} is read before it is written"))
    }

    /// A new value for register `register`.
    fn write(&mut self, register: Register, dtype: DType) -> Result<usize, String> {
        let place = self.registers.get_mut(register as usize);
        let place = place.ok_or_else(|| format!("register {register}: there are only {MAX_REGISTERS}"))?;
        *place = Some(self.values.len());
        self.values.push(Value { dtype, last_use: 0, slot: 0, producer: None });
        Ok(self.values.len() - 1)
    }

    /// Translates one instruction.
    fn add(
        &mut self,
        instruction: Instruction,
        program: &Program,
        reductions: &mut Vec<Reduction>,
        written: &mut [bool],
    ) -> Result<(), String> {
        let mut claim = |output: usize, dtype: DType| match (program.outputs.get(output), written.get_mut(output)) {
            (Some(&expected), _) if expected != dtype => Err(format!("output {output} is {expected}, not {dtype}")),
            (_, Some(true)) => Err(format!("output {output} is written twice")),
            (_, Some(done)) => {
                *done = true;
                Ok(())
            }
            _ => Err(format!("there is no output {output}")),
        };
        let node = match instruction {
            Instruction::Load { to, input } => {
                let dtype = *program.inputs.get(input).ok_or_else(|| format!("there is no input {input}"))?;
                Node::Load { to: self.write(to, dtype)?, input }
            }
            Instruction::Scalar { to, index, dtype } => Node::Scalar { to: self.write(to, dtype)?, index },
            Instruction::Unary { op, dtype, to, from } => {
                let kernels = unary_kernels(op, dtype).ok_or_else(|| format!("there is no {op:?} of {dtype}"))?;
                let from = self.read(from, dtype)?;
                let result = if op == super::UnaryOp::IsNan { DType::Bool } else { dtype };
                Node::Compute {
                    op: None,
                    kernels,
                    to: self.write(to, result)?,
                    arguments: [from; 3],
                    kind: Kind::Unary,
                }
            }
            Instruction::Binary { op, dtype, to, a, b } => {
                let kernels = binary_kernels(op, dtype).ok_or_else(|| format!("there is no {op:?} of {dtype}"))?;
                let (a, b) = (self.read(a, dtype)?, self.read(b, dtype)?);
                let result = if op.is_comparison() { DType::Bool } else { dtype };
                let to = self.write(to, result)?;
                let single = (dtype == DType::F32).then_some(op);
                Node::Compute { op: single, kernels, to, arguments: [a, b, b], kind: Kind::Binary }
            }
            Instruction::Select { dtype, to, condition, a, b } => {
                let arguments = [self.read(condition, DType::Bool)?, self.read(a, dtype)?, self.read(b, dtype)?];
                let to = self.write(to, dtype)?;
                Node::Compute { op: None, kernels: select_kernels(dtype), to, arguments, kind: Kind::Select }
            }
            Instruction::Cast { from_dtype, to_dtype, to, from } => {
                let from = self.read(from, from_dtype)?;
                let to = self.write(to, to_dtype)?;
                let kernels = cast_kernels(from_dtype, to_dtype);
                Node::Compute { op: None, kernels, to, arguments: [from; 3], kind: Kind::Unary }
            }
            Instruction::Store { output, from } => {
                claim(output, self.dtype(from)?)?;
                Node::Store { output, from: self.read(from, program.outputs[output])? }
            }
            Instruction::Reduce { op, dtype, output, from } => {
                let from = self.read(from, dtype)?;
                claim(output, dtype)?;
                reductions.push(reduction(op, dtype).ok_or_else(|| format!("there is no {op:?} over {dtype}"))?);
                Node::Reduce { number: reductions.len() - 1, output, from }
            }
        };
        self.nodes.push(node);
        Ok(())
    }
}

impl Node {
    /// The values this reads.
    pub(super) fn reads(&self) -> &[usize] {
        match self {
            Node::Load { .. } | Node::Scalar { .. } => &[],
            Node::Compute { arguments, kind, .. } => &arguments[..kind.arguments()],
            Node::Store { from, .. } | Node::Reduce { from, .. } => std::slice::from_ref(from),
        }
    }

    /// The value this makes.
    pub(super) fn makes(&self) -> Option<usize> {
        match *self {
            Node::Load { to, .. } | Node::Scalar { to, .. } | Node::Compute { to, .. } => Some(to),
            Node::Store { .. } | Node::Reduce { .. } => None,
        }
    }

    /// Whether the result may be written over value `argument`, both being tiles.
    pub(super) fn in_place(&self, argument: usize, values: &[Value]) -> bool {
        match *self {
            Node::Compute { kernels, to, arguments: [a, b, c], kind, .. } => {
                let same = kernels.in_place && values[to].dtype.size() == values[argument].dtype.size();
                same && match kind {
                    Kind::Unary => a == argument,
                    Kind::Binary => (a == argument) != (b == argument),
                    Kind::Fused => a == argument || b == argument || c == argument,
                    Kind::Select => false,
                }
            }
            _ => false,
        }
    }
}

/// Drops nodes whose values nobody reads, and notes the last reader of the others.
fn drop_unread(values: &mut [Value], nodes: &mut Vec<Node>) {
    let mut read = vec![false; values.len()];
    for index in (0..nodes.len()).rev() {
        if nodes[index].makes().is_none_or(|value| read[value]) {
            nodes[index].reads().iter().for_each(|&value| read[value] = true);
        }
    }
    nodes.retain(|node| node.makes().is_none_or(|value| read[value]));
    for (index, node) in nodes.iter().enumerate() {
        if let Node::Compute { to, .. } = *node {
            values[to].producer = Some(index);
        }
        node.reads().iter().for_each(|&value| values[value].last_use = index);
    }
}

/// Joins f32 arithmetic whose result is read once, by f32 arithmetic, with its reader. What it leaves unread is dropped
/// afterwards.
fn fuse(values: &[Value], nodes: &mut [Node]) {
    let mut reads = vec![0; values.len()];
    nodes.iter().flat_map(|node| node.reads()).for_each(|&value| reads[value] += 1);
    // What depends on scalars alone is one element, once a call, and must stay apart.
    let mut constant = vec![false; values.len()];
    let mut producer = vec![usize::MAX; values.len()];
    for index in 0..nodes.len() {
        if let Some(value) = nodes[index].makes() {
            producer[value] = index;
            constant[value] =
                !matches!(nodes[index], Node::Load { .. }) && nodes[index].reads().iter().all(|&v| constant[v]);
        }
        let Node::Compute { op: Some(second), arguments: [a, b, _], to, .. } = nodes[index] else { continue };
        for (middle, third, swapped) in [(a, b, false), (b, a, true)] {
            if reads[middle] != 1 || constant[middle] || producer[middle] == usize::MAX {
                continue;
            }
            if let Node::Compute { op: Some(first), arguments: [x, y, _], .. } = nodes[producer[middle]]
                && let Some(kernels) = fused_kernels(first, second, swapped)
            {
                nodes[index] = Node::Compute { op: None, kernels, to, arguments: [x, y, third], kind: Kind::Fused };
                break;
            }
        }
    }
}

/// Gives each computed value a tile buffer that no value alive at the same time has; returns how many there are.
fn place(values: &mut [Value], nodes: &[Node]) -> usize {
    let (mut free, mut slots) = (Vec::new(), 0);
    for (index, node) in nodes.iter().enumerate() {
        let mut dying: Vec<usize> = node
            .reads()
            .iter()
            .copied()
            .filter(|&v| values[v].producer.is_some() && values[v].last_use == index)
            .collect();
        dying.sort_unstable();
        dying.dedup();
        if let Node::Compute { to, .. } = *node {
            // In place of a dying argument if the kernel allows, else anywhere free.
            let over = dying.iter().position(|&v| node.in_place(v, values));
            values[to].slot = match over {
                Some(position) => values[dying.swap_remove(position)].slot,
                None => free.pop().unwrap_or_else(|| {
                    slots += 1;
                    slots - 1
                }),
            };
        }
        free.extend(dying.iter().map(|&v| values[v].slot));
    }
    slots
}
