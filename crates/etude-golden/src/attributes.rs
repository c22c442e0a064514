//! How PyTorch was called: a case's attributes under PyTorch's own names.

use serde_json::{Map, Value};

/// The attributes of a case. One that is missing or null reads as `None`, or as the default given with it.
#[derive(Clone, Debug)]
pub struct Attributes(pub Map<String, Value>);

impl Attributes {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The attribute `name` read by `read`, or a panic that says what is there instead.
    #[track_caller]
    fn read<'a, T>(&'a self, name: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        self.get(name).map(|value| read(value).unwrap_or_else(|| panic!("attribute `{name}` is {value}, not {what}")))
    }

    /// A number.
    #[track_caller]
    pub fn float(&self, name: &str) -> Option<f64> {
        self.read(name, "a number", Value::as_f64)
    }

    /// A whole number.
    #[track_caller]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.read(name, "a whole number", Value::as_i64)
    }

    /// An axis: a whole number that must be there.
    #[track_caller]
    pub fn axis(&self, name: &str) -> i32 {
        self.need(name, self.int(name)) as i32
    }

    /// A count: a whole number that must be there and not negative.
    #[track_caller]
    pub fn size(&self, name: &str) -> usize {
        self.need(name, self.read(name, "a count", Value::as_u64)) as usize
    }

    /// A truth value, false if it is not there.
    #[track_caller]
    pub fn flag(&self, name: &str) -> bool {
        self.read(name, "a truth value", Value::as_bool).unwrap_or(false)
    }

    /// A text.
    #[track_caller]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.read(name, "a text", Value::as_str)
    }

    /// Whole numbers; a single one counts as a list of one.
    #[track_caller]
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.read(name, "whole numbers", |value| match value {
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|one| vec![one]),
        })
    }

    /// Axes, as [`Attributes::ints`].
    #[track_caller]
    pub fn axes(&self, name: &str) -> Option<Vec<i32>> {
        self.ints(name).map(|list| list.into_iter().map(|axis| axis as i32).collect())
    }

    /// Sizes that must be there.
    #[track_caller]
    pub fn sizes(&self, name: &str) -> Vec<usize> {
        let list = self.need(name, self.ints(name));
        list.into_iter().map(|size| usize::try_from(size).expect("sizes are not negative")).collect()
    }

    /// Numbers; a single one counts as a list of one.
    #[track_caller]
    pub fn floats(&self, name: &str) -> Option<Vec<f64>> {
        self.read(name, "numbers", |value| match value {
            Value::Array(list) => list.iter().map(Value::as_f64).collect(),
            one => one.as_f64().map(|one| vec![one]),
        })
    }

    /// Whether the attribute `name` is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    #[track_caller]
    fn need<T>(&self, name: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| panic!("the attribute `{name}` is missing: {:?}", self.0))
    }
}
