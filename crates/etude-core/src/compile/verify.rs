//! Holds a finished plan against what every plan must be. Runs in builds with debug assertions, so in every test.

use super::plan::{Action, Place, Plan};

/// Checks that steps only read what was written before, that no step overwrites what it or a later step still reads, and
/// that in-place outputs share the slot they say they do.
pub(crate) fn verify(plan: &Plan) -> Result<(), String> {
    let mut written: Vec<bool> = plan.slots.iter().map(|slot| slot.donated.is_some()).collect();
    for (number, step) in plan.steps.iter().enumerate() {
        let complain = |what: String| Err(format!("step {number} ({}): {what}", step.name));
        for place in step.reads() {
            if let Place::Slot(slot) = place
                && !written[slot]
            {
                return complain(format!("reads slot{slot} before anything wrote it"));
            }
        }
        for (output, slot) in step.outputs.iter().enumerate() {
            if step.outputs[..output].contains(slot) {
                return complain(format!("writes slot{slot} twice"));
            }
            let aliased = match &step.action {
                Action::Tile { inputs, .. } => {
                    inputs.iter().any(|input| input.place == Place::Slot(*slot) && input.in_place != Some(output))
                }
                Action::Kernel { .. } => step.reads().contains(&Place::Slot(*slot)),
            };
            if aliased {
                return complain(format!("reads slot{slot} and overwrites it"));
            }
            if step.metas[output].bytes() > plan.slots[*slot].bytes {
                return complain(format!("output {output} does not fit slot{slot}"));
            }
            written[*slot] = true;
        }
    }
    for (place, _) in plan.roots.iter().flatten() {
        if let Place::Slot(slot) = place
            && !written[*slot]
        {
            return Err(format!("a result is expected in slot{slot}, which nothing writes"));
        }
    }
    Ok(())
}
