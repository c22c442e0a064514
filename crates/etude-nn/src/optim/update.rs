//! A step of a rule for many parameters, recorded as one node.

use super::{Member, Rule, Step};
use etude_core::operation::Meta;
use etude_core::{DType, Kind, Operation, Tensor};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// `numbers…, (w, g, slots…)…  →  (w, slots…)…`, written out by the compiler as the rule's arithmetic.
#[derive(Debug)]
pub(super) struct Update {
    rule: Arc<dyn Rule>,
    /// The rule as `Debug` shows it: with the number of numbers, all that decides what is computed.
    text: String,
    numbers: usize,
}

impl Update {
    /// Records the step for the members in `pairs` (number and gradient), gives them their new values, and adds those to
    /// `wanted`.
    #[track_caller]
    pub(super) fn record(
        rule: &Arc<dyn Rule>,
        step: &Step,
        dtype: DType,
        pairs: Vec<(usize, Tensor)>,
        members: &mut [Member],
        wanted: &mut Vec<Tensor>,
    ) {
        if pairs.is_empty() {
            return;
        }
        let numbers = rule.numbers(step);
        let mut inputs: Vec<Tensor> = numbers.iter().map(|&number| Tensor::scalar(number, dtype)).collect();
        let indices: Vec<usize> = pairs.iter().map(|(index, _)| *index).collect();
        for (index, gradient) in pairs {
            let member = &mut members[index];
            inputs.extend([member.param.value(), gradient]);
            inputs.append(&mut member.slots);
        }
        let update = Update { rule: rule.clone(), text: format!("{rule:?}"), numbers: numbers.len() };
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let mut results = Tensor::record_many(update, &inputs).into_iter();
        for index in indices {
            let member = &mut members[index];
            let new = results.next().expect("a value for each parameter");
            member.slots = results.by_ref().take(rule.slots().len()).collect();
            wanted.push(new.clone());
            wanted.extend(member.slots.iter().cloned());
            member.param.set(new);
        }
    }

    /// Inputs that belong to one parameter.
    fn width(&self) -> usize {
        2 + self.rule.slots().len()
    }
}

impl Operation for Update {
    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (&self.text, self.numbers).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let parameters = inputs[self.numbers..].chunks(self.width());
        Ok(parameters.flat_map(|parameter| [&parameter[..1], &parameter[2..]].concat()).collect())
    }

    fn kind(&self) -> Kind {
        Kind::Composite
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (numbers, parameters) = inputs.split_at(self.numbers);
        let mut results = Vec::with_capacity(parameters.len());
        for parameter in parameters.chunks(self.width()) {
            let mut slots = parameter[2..].to_vec();
            results.push(self.rule.update(&parameter[0], &parameter[1], &mut slots, numbers));
            results.append(&mut slots);
        }
        Some(results)
    }
}
