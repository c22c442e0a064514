//! Groups become steps. A group of elementwise items is written as a tile program, with registers given
//! back as soon as their last reader has run.

use super::fuse::{self, Group, direct};
use super::graph::{Base, Item, Items, Located, Work};
use crate::operation::{Kind, Meta};
use crate::{Shape, Window};
use etude_kernels::tile::{Instruction, MAX_REGISTERS, Program, Register};
use std::collections::HashMap;

/// A step whose storage is not decided yet: inputs and outputs are still bases.
pub(crate) struct Draft {
    pub work: DraftWork,
    /// What is read, in the order of the program's or the kernel's inputs. Scalars are not in here.
    pub inputs: Vec<Located>,
    /// What is written: (item, output).
    pub outputs: Vec<(usize, usize)>,
    pub metas: Vec<Meta>,
    pub name: String,
    /// The item that gives the step its place in the source.
    pub item: usize,
}

pub(crate) enum DraftWork {
    Tile {
        program: Program,
        kept: Vec<usize>,
        reduced: Vec<usize>,
        strides: Vec<Vec<isize>>,
        scalars: Vec<usize>,
    },
    /// The inputs of an update, but for the gradient, follow the kernel's own.
    Kernel {
        update: Option<DraftUpdate>,
    },
}

/// An update whose gradient is what a kernel makes.
pub(crate) struct DraftUpdate {
    pub program: Program,
    /// Rows and columns.
    pub shape: [usize; 2],
    pub scalars: Vec<usize>,
}

impl Draft {
    /// How many of the inputs are the kernel's own, where an update's follow them; else all.
    pub fn own_inputs(&self) -> usize {
        match &self.work {
            DraftWork::Kernel { update: Some(update) } => self.inputs.len() + 1 - update.program.inputs.len(),
            _ => self.inputs.len(),
        }
    }
}

/// Writes every group as a step, or names the group that needs more registers than there are.
pub(crate) fn lower(items: &Items, groups: &[Group]) -> Result<Vec<Draft>, usize> {
    let member = fuse::members(items, groups);
    let mut outside = vec![false; items.items.len()];
    for (at, item) in items.items.iter().enumerate() {
        for input in &item.inputs {
            let Base::Item(from, _) = input.base else { continue };
            let shape = item.iteration().unwrap_or(input.window.shape);
            let register = member[from] == member[at] && direct(items, input, &shape) == Some(from);
            outside[from] |= !register;
        }
    }
    for place in items.roots.iter().flatten() {
        if let Base::Item(item, _) = place.base {
            outside[item] = true;
        }
    }
    let mut drafts = Vec::with_capacity(groups.len());
    for (number, group) in groups.iter().enumerate() {
        let draft = draft(items, group, &outside);
        if let DraftWork::Tile { program, .. } = &draft.work
            && group.len() > 1
            && highest(&program.instructions) >= MAX_REGISTERS
        {
            return Err(number);
        }
        drafts.push(draft);
    }
    Ok(drafts)
}

fn draft(items: &Items, group: &Group, outside: &[bool]) -> Draft {
    let first = &items.items[group[0]];
    if let Work::Kernel(_) = first.work {
        return Draft {
            work: DraftWork::Kernel { update: None },
            inputs: first.inputs.clone(),
            outputs: (0..first.outputs.len()).map(|output| (group[0], output)).collect(),
            metas: first.outputs.clone(),
            name: first.name().to_string(),
            item: group[0],
        };
    }
    let shape = first.iteration().unwrap_or(first.inputs[0].window.shape);
    let folded: Vec<usize> = group
        .iter()
        .find_map(|&at| match &items.items[at].work {
            Work::Reduce(_, axes) => Some(axes.clone()),
            _ => None,
        })
        .unwrap_or_default();
    let order: Vec<usize> =
        (0..shape.rank()).filter(|axis| !folded.contains(axis)).chain(folded.iter().copied()).collect();
    let mut writer = Writer {
        shape,
        order: &order,
        instructions: Vec::new(),
        next: 0,
        loaded: HashMap::new(),
        inputs: Vec::new(),
        strides: Vec::new(),
        scalars: Vec::new(),
    };
    let mut registers: HashMap<usize, Register> = HashMap::new();
    let (mut outputs, mut metas) = (Vec::new(), Vec::new());
    for &at in group {
        let item = &items.items[at];
        let operands: Vec<Register> = item
            .inputs
            .iter()
            .map(|input| match direct(items, input, &shape).and_then(|from| registers.get(&from)) {
                Some(&register) => register,
                None => writer.read(input),
            })
            .collect();
        match &item.work {
            Work::Reduce(op, _) => {
                let dtype = item.inputs[0].dtype;
                let output = outputs.len();
                writer.instructions.push(Instruction::Reduce { op: *op, dtype, output, from: operands[0] });
            }
            _ => {
                let to = writer.compute(item, &operands);
                registers.insert(at, to);
                if !outside[at] {
                    continue;
                }
                writer.instructions.push(Instruction::Store { output: outputs.len(), from: to });
            }
        }
        outputs.push((at, 0));
        metas.push(item.outputs[0]);
    }
    let program = Program {
        instructions: allocate(writer.instructions),
        inputs: writer.inputs.iter().map(|input| input.dtype).collect(),
        outputs: metas.iter().map(|meta| meta.dtype).collect(),
    };
    let sizes = |axes: &[usize]| axes.iter().map(|&axis| shape[axis]).collect::<Vec<_>>();
    let (kept, reduced) = order.split_at(shape.rank() - folded.len());
    let strides = writer.strides;
    Draft {
        work: DraftWork::Tile { program, kept: sizes(kept), reduced: sizes(reduced), strides, scalars: writer.scalars },
        inputs: writer.inputs,
        outputs,
        metas,
        name: name(items, group),
        item: *group.last().expect("groups are not empty"),
    }
}

/// `mul add tanh`: the items of a group, at most six spelled out.
fn name(items: &Items, group: &Group) -> String {
    let names: Vec<&str> = group.iter().take(6).map(|&at| items.items[at].name()).collect();
    let more = if group.len() > 6 { format!(" +{}", group.len() - 6) } else { String::new() };
    names.join(" ") + &more
}

/// Writes one program. Registers are numbered without reuse first.
struct Writer<'a> {
    shape: Shape,
    /// Axes of the iteration: kept ones, then folded ones.
    order: &'a [usize],
    instructions: Vec<Instruction>,
    next: Register,
    /// Inputs read before, so that each is loaded once.
    loaded: HashMap<(Base, Window), Register>,
    inputs: Vec<Located>,
    strides: Vec<Vec<isize>>,
    scalars: Vec<usize>,
}

impl Writer<'_> {
    fn register(&mut self) -> Register {
        self.next += 1;
        self.next - 1
    }

    fn read(&mut self, input: &Located) -> Register {
        let window = input.window.expanded(&self.shape);
        if let Some(&register) = self.loaded.get(&(input.base, window)) {
            return register;
        }
        let to = self.register();
        match input.base {
            Base::Scalar(number) => {
                let index = self.scalars.iter().position(|&known| known == number).unwrap_or_else(|| {
                    self.scalars.push(number);
                    self.scalars.len() - 1
                });
                self.instructions.push(Instruction::Scalar { to, index, dtype: input.dtype });
            }
            _ => {
                self.instructions.push(Instruction::Load { to, input: self.inputs.len() });
                self.inputs.push(Located { window, ..*input });
                self.strides.push(self.order.iter().map(|&axis| window.strides[axis]).collect());
            }
        }
        self.loaded.insert((input.base, window), to);
        to
    }

    fn compute(&mut self, item: &Item, operands: &[Register]) -> Register {
        let Work::Elementwise(kind) = &item.work else { return operands[0] };
        let to = self.register();
        self.instructions.push(match kind {
            Kind::Unary(op) => Instruction::Unary { op: *op, dtype: item.inputs[0].dtype, to, from: operands[0] },
            Kind::Binary(op) => {
                Instruction::Binary { op: *op, dtype: item.inputs[0].dtype, to, a: operands[0], b: operands[1] }
            }
            Kind::Select => Instruction::Select {
                dtype: item.outputs[0].dtype,
                to,
                condition: operands[0],
                a: operands[1],
                b: operands[2],
            },
            _ => Instruction::Cast {
                from_dtype: item.inputs[0].dtype,
                to_dtype: item.outputs[0].dtype,
                to,
                from: operands[0],
            },
        });
        to
    }
}

/// Numbers registers anew so that one is used again once its last reader has run.
fn allocate(mut instructions: Vec<Instruction>) -> Vec<Instruction> {
    let mut last: HashMap<Register, usize> = HashMap::new();
    for (at, instruction) in instructions.iter_mut().enumerate() {
        visit(instruction, |register, _| {
            last.insert(*register, at);
        });
    }
    let mut names: HashMap<Register, Register> = HashMap::new();
    let mut free: Vec<Register> = Vec::new();
    let mut next = 0;
    for (at, instruction) in instructions.iter_mut().enumerate() {
        let mut ended = Vec::new();
        visit(instruction, |register, written| {
            let old = *register;
            if !written {
                *register = names[&old];
            }
            if last[&old] == at && !written {
                ended.push(old);
            }
        });
        visit(instruction, |register, written| {
            if written {
                let old = *register;
                let fresh = free.pop().unwrap_or_else(|| {
                    next += 1;
                    next - 1
                });
                names.insert(old, fresh);
                *register = fresh;
            }
        });
        ended.sort_unstable();
        ended.dedup();
        free.extend(ended.iter().map(|old| names[old]));
    }
    instructions
}

/// Calls `with(register, written)` for each register of `instruction`: those read first, then the one written.
fn visit(instruction: &mut Instruction, mut with: impl FnMut(&mut Register, bool)) {
    match instruction {
        Instruction::Load { to, .. } | Instruction::Scalar { to, .. } => with(to, true),
        Instruction::Unary { to, from, .. } | Instruction::Cast { to, from, .. } => {
            with(from, false);
            with(to, true);
        }
        Instruction::Binary { to, a, b, .. } => {
            with(a, false);
            with(b, false);
            with(to, true);
        }
        Instruction::Select { to, condition, a, b, .. } => {
            with(condition, false);
            with(a, false);
            with(b, false);
            with(to, true);
        }
        Instruction::Store { from, .. } | Instruction::Reduce { from, .. } => with(from, false),
    }
}

/// The highest register a program uses.
fn highest(instructions: &[Instruction]) -> usize {
    let mut highest = 0;
    for instruction in instructions {
        visit(&mut instruction.clone(), |register, _| highest = highest.max(*register as usize));
    }
    highest
}
