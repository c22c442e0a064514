//! The golden cases as these tests read them.

use etude_core::{DType, Tensor};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// One case: an operation, its attributes and its tensors by role and name (`in/x`, `param/weight`, `grad/x`).
pub struct Case {
    pub name: String,
    pub operation: String,
    pub attributes: Value,
    tensors: BTreeMap<String, Tensor>,
}

/// Every case of a group.
pub fn group(group: &str) -> Vec<Case> {
    let cases = etude_golden::cases(&[group]).unwrap_or_else(|error| panic!("{error}"));
    assert!(!cases.is_empty(), "no golden cases in group {group}");
    let own = |case: etude_golden::Case| Case {
        name: case.name,
        operation: case.operation,
        attributes: Value::Object(case.attributes.0),
        tensors: case.tensors,
    };
    cases.into_iter().map(own).collect()
}

impl Case {
    /// The tensor `role/name`, if there is one.
    pub fn find(&self, key: &str) -> Option<Tensor> {
        self.tensors.get(key).cloned()
    }

    /// The tensor `role/name`.
    pub fn get(&self, key: &str) -> Tensor {
        self.find(key).unwrap_or_else(|| panic!("{}: no tensor {key}", self.name))
    }

    /// The tensors of one role by name.
    pub fn role(&self, role: &str) -> HashMap<String, Tensor> {
        let own = |(key, tensor): (&String, &Tensor)| {
            Some((key.strip_prefix(&format!("{role}/"))?.to_string(), tensor.clone()))
        };
        self.tensors.iter().filter_map(own).collect()
    }

    /// A number among the attributes.
    pub fn number(&self, key: &str) -> f64 {
        self.number_or(key, None)
    }

    /// A number among the attributes, or what it is by default.
    pub fn number_or(&self, key: &str, default: impl Into<Option<f64>>) -> f64 {
        let found = self.attributes[key].as_f64().or(default.into());
        found.unwrap_or_else(|| panic!("{}: no number {key}", self.name))
    }

    /// A count among the attributes.
    pub fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    /// Whether an attribute is set.
    pub fn flag(&self, key: &str) -> bool {
        self.attributes[key].as_bool().unwrap_or(false)
    }

    /// Holds `found` to the tensor `key`, as near as the golden files' README says.
    #[track_caller]
    pub fn check(&self, key: &str, found: &Tensor) {
        if let Some(difference) = etude_golden::difference(key, found, &self.get(key)) {
            panic!("{}: {difference}", self.name);
        }
    }
}

/// Holds `found` to `wanted`: same shape, and nowhere further apart than `tolerance` times the largest magnitude.
#[track_caller]
pub fn close(what: &str, found: &Tensor, wanted: &Tensor, tolerance: f64) {
    assert_eq!(found.shape(), wanted.shape(), "{what}");
    let (found, wanted) = (found.to(DType::F64).to_vec::<f64>(), wanted.to(DType::F64).to_vec::<f64>());
    let largest = wanted.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    for (i, (a, b)) in found.iter().zip(&wanted).enumerate() {
        let near = a == b || (a - b).abs() <= tolerance * largest;
        assert!(near, "{what}: element {i} is {a}, not {b}, and the largest magnitude is {largest}");
    }
}
