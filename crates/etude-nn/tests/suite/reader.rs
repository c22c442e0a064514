//! Reads the cases of `tests/golden` at the repository's root; its README says what they hold.

use etude_core::{DType, Tensor};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// One case: an operation, its attributes and its tensors by role and name (`in/x`, `param/weight`, `grad/x`).
pub struct Case {
    pub name: String,
    pub operation: String,
    pub attributes: Value,
    tensors: HashMap<String, Tensor>,
}

/// How far apart float32 answers may be, over the largest magnitude: the README says why.
const TOLERANCE: f64 = 1e-5;

/// Every case of a group.
pub fn group(group: &str) -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let text = std::fs::read_to_string(folder.join("index.json")).expect("the index of golden cases is there");
    let index: Value = serde_json::from_str(&text).expect("the index is JSON");
    let all = etude_nn::read_tensors(folder.join(format!("{group}.safetensors"))).expect("the group's tensors");
    let cases: Vec<Case> = index["cases"]
        .as_array()
        .expect("cases are a list")
        .iter()
        .filter(|case| case["group"] == group)
        .map(|case| {
            let name = case["name"].as_str().expect("a case has a name").to_string();
            let own = |(key, tensor): (&String, &Tensor)| {
                Some((key.strip_prefix(&format!("{name}/"))?.to_string(), tensor.clone()))
            };
            let tensors = all.iter().filter_map(own).collect();
            let operation = case["operation"].as_str().expect("a case has an operation").to_string();
            Case { name, operation, attributes: case["attributes"].clone(), tensors }
        })
        .collect();
    assert!(!cases.is_empty(), "no golden cases in group {group}");
    cases
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

    /// Holds `found` to the tensor `key`.
    #[track_caller]
    pub fn check(&self, key: &str, found: &Tensor) {
        close(&format!("{}: {key}", self.name), found, &self.get(key), TOLERANCE);
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
