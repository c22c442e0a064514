//! An elementwise program right behind a kernel that takes tails, in the place of the kernel's output, becomes
//! the kernel's tail: it runs on rows that are still in cache, and the step between them disappears.

use super::plan::{Action, Behind, Place, Plan, RowsProgram, Step, TileInput};

/// Joins what can be joined.
pub(crate) fn attach(plan: &mut Plan) {
    let mut steps: Vec<Step> = Vec::with_capacity(plan.steps.len());
    for step in std::mem::take(&mut plan.steps) {
        let tail = steps.last().and_then(|kernel| tail(kernel, &step));
        match (tail, steps.last_mut()) {
            (Some(found), Some(kernel)) => {
                let Action::Kernel { behind, .. } = &mut kernel.action else { unreachable!("only kernels take tails") };
                *behind = Behind::Tail(Box::new(found));
                kernel.name = format!("{}, {}", kernel.name, step.name);
                kernel.metas = step.metas;
                kernel.frees.extend(step.frees);
            }
            _ => steps.push(step),
        }
    }
    plan.steps = steps;
}

/// `step` as a tail of `kernel`, if it can be one: its one output lies in the place of the kernel's, and it runs over rows.
fn tail(kernel: &Step, step: &Step) -> Option<RowsProgram> {
    let (
        Action::Kernel { source, behind: Behind::Nothing, .. },
        Action::Tile { prepared, kept, reduced, inputs, scalars },
    ) = (&kernel.action, &step.action)
    else {
        return None;
    };
    let ([slot], [output]) = (&kernel.outputs[..], &step.outputs[..]) else { return None };
    let (rows, columns) = (kernel.metas[0].shape.first()?, kernel.metas[0].shape.last()?);
    let over_rows = kernel.metas[0].shape.rank() == 2 && kept.last() == Some(columns);
    if !source.operation()?.takes_tail() || slot != output || !over_rows || !reduced.is_empty() {
        return None;
    }
    let made = |input: &&TileInput| input.place == Place::Slot(*slot);
    if prepared.known().is_some() || !inputs.iter().filter(made).all(|input| input.in_place == Some(0)) {
        return None;
    }
    let inputs: Option<Vec<TileInput>> = inputs.iter().map(|input| by_rows(input, kept)).collect();
    Some(RowsProgram {
        prepared: prepared.clone(),
        rows: *rows,
        columns: *columns,
        inputs: inputs?,
        scalars: scalars.clone(),
    })
}

/// `input` with all axes but the last taken as one, if its strides allow that.
fn by_rows(input: &TileInput, kept: &[usize]) -> Option<TileInput> {
    let (&column, outer) = input.strides.split_last()?;
    let mut row = None;
    for (&size, &stride) in kept.iter().zip(outer).rev().filter(|(size, _)| **size != 1) {
        match row {
            None => row = Some((stride, stride * size as isize)),
            Some((first, next)) if next == stride => row = Some((first, stride * size as isize)),
            Some(_) => return None,
        }
    }
    Some(TileInput { strides: vec![row.map_or(0, |(stride, _)| stride), column], ..input.clone() })
}
