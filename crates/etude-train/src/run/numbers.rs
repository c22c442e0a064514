//! Numbers in JSON without loss: JSON has no NaN and no infinity, so these are written as the words `"NaN"`, `"inf"`,
//! `"-inf"`. Use with `#[serde(with = "…::numbers")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Word(String),
}

/// A JSON value for any `f64`.
pub(crate) fn to_json(value: f64) -> serde_json::Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => serde_json::Value::Number(number),
        None => serde_json::Value::String(value.to_string()),
    }
}

/// The `f64` in a JSON value written by [`to_json`]; `None` for anything else.
pub(crate) fn from_json(value: &serde_json::Value) -> Option<f64> {
    match value {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(word) => from_word(word),
        _ => None,
    }
}

fn from_word(word: &str) -> Option<f64> {
    match word {
        "NaN" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

pub(crate) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { value.serialize(out) } else { value.to_string().serialize(out) }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    match Written::deserialize(input)? {
        Written::Number(value) => Ok(value),
        Written::Word(word) => {
            from_word(&word).ok_or_else(|| serde::de::Error::custom(format!("expected a number, found `{word}`")))
        }
    }
}

/// The same for a map of numbers.
pub(crate) mod map {
    use super::*;
    use std::collections::BTreeMap;

    pub(crate) fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(map.iter().map(|(name, value)| (name, to_json(*value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, serde_json::Value>::deserialize(input)?;
        let read = |(name, value): (String, serde_json::Value)| match from_json(&value) {
            Some(number) => Ok((name, number)),
            None => Err(serde::de::Error::custom(format!("`{name}` is {value}, not a number"))),
        };
        map.into_iter().map(read).collect()
    }
}
