//! Runs a plan: steps in order, each parallel inside. The CPU is one [`Executor`]; another backend is another.

use super::capture::Capture;
use crate::compile::graph::bits;
use crate::compile::plan::{Action, Behind, Home, KernelInput, Place, Plan, RowsProgram, Step, TileInput};
use crate::context::switches;
use crate::node::Value;
use crate::operation::{Argument, Call};
use crate::{DType, Error, Result};
use etude_kernels::tile::{Input, Scalar, Source, Tail};
use etude_kernels::{Arena, Buffer};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Something that can run the steps of a plan.
pub(crate) trait Executor {
    /// Fills `outputs` (the step's outputs, in order) from what the step reads.
    fn run(
        &self,
        step: &Step,
        memory: &Memory,
        scalars: &[Scalar],
        outputs: &mut [Buffer],
    ) -> std::result::Result<(), String>;
}

/// The storage a plan's steps read.
pub(crate) struct Memory<'a> {
    leaves: Vec<&'a Value>,
    slots: Vec<Option<Buffer>>,
}

impl Memory<'_> {
    fn buffer(&self, place: Place) -> &Buffer {
        match place {
            Place::Leaf(index) => &self.leaves[index].storage,
            Place::Slot(index) => self.slots[index].as_ref().expect("a slot is written before it is read"),
        }
    }

    /// The offset of a place's first element: data may be a window into larger storage.
    fn offset(&self, place: Place) -> usize {
        match place {
            Place::Leaf(index) => self.leaves[index].window.offset,
            Place::Slot(_) => 0,
        }
    }

    fn tile_inputs<'a>(&'a self, inputs: &'a [TileInput]) -> Vec<Input<'a>> {
        let place = |input: &'a TileInput| Input {
            source: match input.in_place {
                Some(output) => Source::Output(output),
                None => Source::Buffer(self.buffer(input.place)),
            },
            offset: input.offset + self.offset(input.place),
            strides: &input.strides,
        };
        inputs.iter().map(place).collect()
    }
}

/// Runs `plan` on what `capture` holds and returns the values of its roots. `times` gets how long each step took.
pub(crate) fn run(plan: &Plan, capture: &mut Capture, times: Option<&mut Vec<Duration>>) -> Result<Vec<Vec<Value>>> {
    // Storage given away is taken out of its node here; nobody else holds it.
    let mut slots: Vec<Option<Buffer>> = Vec::with_capacity(plan.slots.len());
    for slot in &plan.slots {
        slots.push(match slot.home {
            Home::Donated(index) => Some(take_over(capture, index)),
            _ => None,
        });
    }
    capture.scalars.extend_from_slice(&plan.constants);
    let tables = tables(plan, &capture.scalars)?;
    let leaves = capture.leaves.iter().map(|leaf| &leaf.value).chain(&tables).collect();
    run_on(plan, Memory { leaves, slots }, &capture.scalars, times)
}

/// The values of the plan's tables for these numbers: the last ones, if the numbers are the same.
pub(crate) fn tables(plan: &Plan, scalars: &[Scalar]) -> Result<Vec<Value>> {
    let Some(tables) = &plan.tables else { return Ok(Vec::new()) };
    let numbers: Vec<Scalar> = tables.numbers.iter().map(|&index| scalars[index]).collect();
    let same = |(a, b): (&Scalar, &Scalar)| bits(*a) == bits(*b);
    let lock = || tables.made.lock().unwrap_or_else(|poison| poison.into_inner());
    let (last, values) = lock().clone();
    if !values.is_empty() && last.iter().zip(&numbers).all(same) {
        return Ok(values);
    }
    let values = run_on_leaves(&tables.plan, Vec::new(), scalars, None)?;
    let values: Vec<Value> = values.into_iter().flatten().collect();
    *lock() = (numbers, values.clone());
    Ok(values)
}

/// Runs `plan` on `leaves`, none of which is given away.
pub(crate) fn run_on_leaves(
    plan: &Plan,
    leaves: Vec<&Value>,
    scalars: &[Scalar],
    times: Option<&mut Vec<Duration>>,
) -> Result<Vec<Vec<Value>>> {
    let slots = plan.slots.iter().map(|_| None).collect();
    run_on(plan, Memory { leaves, slots }, scalars, times)
}

fn run_on(
    plan: &Plan,
    mut memory: Memory,
    scalars: &[Scalar],
    mut times: Option<&mut Vec<Duration>>,
) -> Result<Vec<Vec<Value>>> {
    let switches = switches();
    let arena = Arena::new(plan.arena);
    let mut outputs: Vec<Buffer> = Vec::new();
    for step in &plan.steps {
        for (&slot, meta) in step.outputs.iter().zip(&step.metas) {
            let buffer = match memory.slots[slot].take() {
                Some(buffer) => buffer,
                None => match plan.slots[slot].home {
                    Home::Arena(offset) => arena.take(offset, meta.bytes()),
                    _ => Buffer::recycled(meta.bytes()),
                },
            };
            outputs.push(buffer);
        }
        let start = times.is_some().then(Instant::now);
        let result = Cpu.run(step, &memory, scalars, &mut outputs);
        if let (Some(start), Some(times)) = (start, &mut times) {
            times.push(start.elapsed());
        }
        if switches.check_nan && result.is_ok() {
            check_finite(step, &outputs)?;
        }
        for (&slot, buffer) in step.outputs.iter().zip(outputs.drain(..)) {
            memory.slots[slot] = Some(buffer);
        }
        result.map_err(|message| {
            let scope = step.scope.as_ref().map_or(String::new(), |scope| format!(" (in {scope})"));
            Error::Execution(format!("{}: {message}, recorded at {}{scope}", step.name, step.location))
        })?;
        step.frees.iter().for_each(|&slot| memory.slots[slot] = None);
    }
    let mut shared: Vec<Option<Arc<Buffer>>> = vec![None; plan.slots.len()];
    let mut value = |&(place, window): &(Place, crate::Window)| match place {
        Place::Leaf(index) => {
            let leaf = memory.leaves[index];
            let offset = leaf.window.offset + window.offset;
            Value { storage: leaf.storage.clone(), window: crate::Window { offset, ..window } }
        }
        Place::Slot(slot) => {
            let storage = shared[slot].get_or_insert_with(|| {
                Arc::new(memory.slots[slot].take().expect("a result's slot is written by its step"))
            });
            Value { storage: storage.clone(), window }
        }
    };
    Ok(plan.roots.iter().map(|places| places.iter().map(&mut value).collect()).collect())
}

/// The buffer of a donated leaf, taken out of the node that held it; a copy if somebody took hold of it meanwhile.
fn take_over(capture: &mut Capture, index: usize) -> Buffer {
    let node = capture.leaves[index].node as usize;
    drop(capture.nodes[node].state().values.take());
    let empty = Arc::new(Buffer::zeroed(0));
    let storage = std::mem::replace(&mut capture.leaves[index].value.storage, empty);
    Arc::try_unwrap(storage).unwrap_or_else(|shared| (*shared).clone())
}

/// The CPU with Étude's own kernels.
struct Cpu;

impl Executor for Cpu {
    fn run(
        &self,
        step: &Step,
        memory: &Memory,
        scalars: &[Scalar],
        outputs: &mut [Buffer],
    ) -> std::result::Result<(), String> {
        match &step.action {
            Action::Tile { prepared, kept, reduced, inputs, scalars: used, .. } => {
                let inputs = memory.tile_inputs(inputs);
                let used: Vec<Scalar> = used.iter().map(|&index| scalars[index]).collect();
                let mut targets: Vec<&mut Buffer> = outputs.iter_mut().collect();
                prepared.run(kept, reduced, &inputs, &used, &mut targets);
                Ok(())
            }
            Action::Kernel { source, inputs, behind } => {
                let arguments: Vec<Argument> = inputs
                    .iter()
                    .map(|input| match input {
                        KernelInput::Scalar(index) => Argument::Scalar(scalars[*index]),
                        KernelInput::Array(place, window, dtype) => {
                            let offset = window.offset + memory.offset(*place);
                            Argument::Array(memory.buffer(*place), crate::Window { offset, ..*window }, *dtype)
                        }
                    })
                    .collect();
                let operation = source.operation().expect("a kernel step has an operation");
                let used = |program: &RowsProgram| -> Vec<Scalar> {
                    program.scalars.iter().map(|&index| scalars[index]).collect()
                };
                let mut call =
                    Call { inputs: &arguments, outputs: &mut [], metas: &step.metas, tail: None, update: None };
                match behind {
                    Behind::Nothing => {
                        call.outputs = outputs;
                        operation.run(&mut call)
                    }
                    Behind::Update(program) => {
                        let (shape, inputs) = ([program.rows, program.columns], memory.tile_inputs(&program.inputs));
                        let update = program.prepared.update(shape, &inputs, &used(program), outputs);
                        call.update = Some(&update);
                        operation.run(&mut call)
                    }
                    Behind::Tail(program) => {
                        let (inputs, scalars) = (memory.tile_inputs(&program.inputs), used(program));
                        let tail = Tail { prepared: &program.prepared, inputs: &inputs, scalars: &scalars };
                        call.outputs = outputs;
                        call.tail = Some(&tail);
                        operation.run(&mut call)?;
                        // Whatever a kernel leaves undone is done behind it.
                        if call.tail.is_some() {
                            let shape = [program.rows, program.columns];
                            program.prepared.run(&shape, &[], &inputs, &scalars, &mut [&mut call.outputs[0]]);
                        }
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Under `ETUDE_CHECK=nan`: an error at the first step that makes a NaN or an infinity.
fn check_finite(step: &Step, outputs: &[Buffer]) -> Result<()> {
    for (buffer, meta) in outputs.iter().zip(&step.metas) {
        let bad = match meta.dtype {
            DType::F32 => buffer.as_slice::<f32>().iter().position(|value| !value.is_finite()),
            DType::F64 => buffer.as_slice::<f64>().iter().position(|value| !value.is_finite()),
            _ => None,
        };
        if let Some(at) = bad {
            let scope = step.scope.as_ref().map_or(String::new(), |scope| format!(" (in {scope})"));
            return Err(Error::Execution(format!(
                "{}: element {at} of its {} result is NaN or infinite, recorded at {}{scope}",
                step.name, meta.shape, step.location
            )));
        }
    }
    Ok(())
}
