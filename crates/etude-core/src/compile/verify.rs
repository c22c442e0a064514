//! Holds a finished plan against what every plan must be. Runs in builds with debug assertions, so in every test.

use super::plan::{Home, Place, Plan};

/// Checks that steps only read what was written before and not freed since, that no step overwrites what it or a later
/// step still reads, that in-place outputs share the slot they say they do, and that slots of the arena which live at the
/// same time are apart.
pub(crate) fn verify(plan: &Plan) -> Result<(), String> {
    let mut written: Vec<bool> = plan.slots.iter().map(|slot| matches!(slot.home, Home::Donated(_))).collect();
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
            if step.clobbers(output, *slot) {
                return complain(format!("reads slot{slot} and overwrites it"));
            }
            if step.metas[output].bytes() != plan.slots[*slot].bytes {
                return complain(format!("output {output} does not fit slot{slot}"));
            }
            if let Home::Arena(start) = plan.slots[*slot].home {
                let end = start + plan.slots[*slot].bytes;
                let meets = |&other: &usize| match plan.slots[other].home {
                    Home::Arena(from) => written[other] && from < end && start < from + plan.slots[other].bytes,
                    _ => false,
                };
                if let Some(other) = (0..plan.slots.len()).filter(|other| other != slot).find(meets) {
                    return complain(format!("slot{slot} and slot{other} live in the same place"));
                }
                if end > plan.arena {
                    return complain(format!("slot{slot} ends outside the arena"));
                }
            }
            written[*slot] = true;
        }
        step.frees.iter().for_each(|&slot| written[slot] = false);
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
