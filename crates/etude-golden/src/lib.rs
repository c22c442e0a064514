//! Holds Étude against the golden files in `tests/golden`: reads the cases of some groups, runs each through an entry of
//! the caller's table, and compares outputs and gradients with what PyTorch answered. For tests only.
//!
//! A case is run or excused, never skipped: one without an entry must stand in the caller's list of what is not there,
//! with the reason, and an entry or an excuse that no case needs fails as well.

mod attributes;
mod compare;
mod read;

pub use attributes::Attributes;
pub use compare::{TOLERANCE, difference};
pub use read::{Case, cases};

use etude_core::Tensor;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a case gives to the operation under test.
pub struct Given {
    /// The case's own name.
    pub name: String,
    /// How PyTorch was called.
    pub attributes: Attributes,
    inputs: BTreeMap<String, Tensor>,
    params: BTreeMap<String, Tensor>,
}

impl Given {
    /// The argument `name`. One whose gradient is compared is a variable.
    ///
    /// # Panics
    /// If the case has no such argument.
    #[track_caller]
    pub fn input(&self, name: &str) -> &Tensor {
        self.inputs.get(name).unwrap_or_else(|| panic!("{} has no input `{name}`", self.name))
    }

    /// The argument `x`, which most cases have.
    #[track_caller]
    pub fn x(&self) -> &Tensor {
        self.input("x")
    }

    /// The argument `name`, if the case has it.
    pub fn find_input(&self, name: &str) -> Option<&Tensor> {
        self.inputs.get(name)
    }

    /// Every argument by name, in alphabetical order.
    pub fn inputs(&self) -> &BTreeMap<String, Tensor> {
        &self.inputs
    }

    /// The parameter or buffer `name`, as PyTorch's state dict calls it.
    ///
    /// # Panics
    /// If the case has no such parameter.
    #[track_caller]
    pub fn param(&self, name: &str) -> &Tensor {
        self.params.get(name).unwrap_or_else(|| panic!("{} has no parameter `{name}`", self.name))
    }

    /// The parameter or buffer `name`, if the case has it.
    pub fn find_param(&self, name: &str) -> Option<&Tensor> {
        self.params.get(name)
    }

    /// Every parameter and buffer by name.
    pub fn params(&self) -> &BTreeMap<String, Tensor> {
        &self.params
    }
}

/// What an entry gives back: tensors under the names the golden files give the outputs.
pub struct Outputs(pub Vec<(String, Tensor)>);

impl From<Tensor> for Outputs {
    /// A single output is called `y`.
    fn from(y: Tensor) -> Outputs {
        Outputs(vec![("y".into(), y)])
    }
}

impl<const N: usize> From<[(&str, Tensor); N]> for Outputs {
    fn from(outputs: [(&str, Tensor); N]) -> Outputs {
        Outputs(outputs.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect())
    }
}

/// A line of the caller's table: the operation's name in the golden files, and the call that does the same here.
pub struct Entry {
    operation: &'static str,
    run: Box<dyn Fn(&Given) -> Outputs>,
}

impl Entry {
    /// The operation called `operation` in the golden files is `run` here.
    pub fn new<T: Into<Outputs>>(operation: &'static str, run: impl Fn(&Given) -> T + 'static) -> Entry {
        Entry { operation, run: Box::new(move |given| run(given).into()) }
    }
}

/// An operation, or one case of it, that is not compared, and why.
pub struct NotHere {
    /// The operation's name in the golden files.
    pub operation: &'static str,
    /// One case of it, or `*` for all.
    pub case: &'static str,
    /// The reason.
    pub why: &'static str,
}

/// Runs every case of `groups` through `table` and returns how many there were.
///
/// # Panics
/// With every difference found: outputs and gradients further off than [`TOLERANCE`], cases without an entry that
/// `not_here` does not name, and lines of either list that nothing needs.
pub fn check(groups: &[&str], table: &[Entry], not_here: &[NotHere]) -> usize {
    let cases = cases(groups).unwrap_or_else(|error| panic!("golden files: {error}"));
    let mut failures = Vec::new();
    let (mut used, mut excused) = (vec![false; table.len()], vec![false; not_here.len()]);
    let mut count = 0;
    for group in groups {
        if cases.iter().all(|case| case.group != *group) {
            failures.push(format!("group {group} has no case; its name may be misspelt"));
        }
    }
    for case in &cases {
        let excuse = not_here.iter().position(|line| {
            line.operation == case.operation && (line.case == "*" || line.case == case.name) && !line.why.is_empty()
        });
        if let Some(line) = excuse {
            excused[line] = true;
            continue;
        }
        let Some(line) = table.iter().position(|entry| entry.operation == case.operation) else {
            failures.push(format!("{}: no entry for `{}`, and no reason for it either", case.name, case.operation));
            continue;
        };
        used[line] = true;
        count += 1;
        let run = || compare::run(case, &*table[line].run);
        let found = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            vec![text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_string()]
        });
        failures.extend(found.into_iter().map(|text| format!("{} ({}): {text}", case.name, case.operation)));
    }
    let idle = table.iter().zip(&used).filter(|(_, used)| !**used);
    failures.extend(idle.map(|(entry, _)| format!("the entry for `{}` fits no case", entry.operation)));
    let idle = not_here.iter().zip(&excused).filter(|(_, used)| !**used);
    failures.extend(idle.map(|(line, _)| format!("`{}` / `{}` excuses no case", line.operation, line.case)));
    let (found, list) = (failures.len(), failures.join("\n"));
    assert!(failures.is_empty(), "{found} failures over {count} golden cases compared:\n{list}");
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(table: &[Entry], not_here: &[NotHere]) -> String {
        let payload = catch_unwind(AssertUnwindSafe(|| check(&["contract"], table, not_here))).expect_err("refused");
        payload.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn nothing_is_skipped_in_silence() {
        let text = refusal(&[], &[]);
        assert!(text.contains("bmm: no entry for `bmm`"), "{text}");
        let wrong = Entry::new("bmm", |given: &Given| given.input("a").matmul(given.input("b")) * 1.001);
        let idle = Entry::new("no such thing", |given: &Given| given.x().clone());
        let excuse = |operation, case| NotHere { operation, case, why: "a test" };
        let text = refusal(&[wrong, idle], &[excuse("outer", "*"), excuse("einsum", "einsum_misspelt")]);
        assert!(text.contains("bmm (bmm): output `y`"), "{text}");
        assert!(text.contains("`no such thing` fits no case"), "{text}");
        assert!(text.contains("`einsum` / `einsum_misspelt` excuses no case"), "{text}");
        assert!(!text.contains("for `outer`"), "{text}");
    }
}
