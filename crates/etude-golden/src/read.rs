//! Reading the index and the tensors of some groups.

use crate::Attributes;
use etude_core::{DType, Shape, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// One golden case.
pub struct Case {
    /// Its name, which no other case has.
    pub name: String,
    /// The file it stands in.
    pub group: String,
    /// What is tested.
    pub operation: String,
    /// How PyTorch was called.
    pub attributes: Attributes,
    /// The tensors, each under `role/name`.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Case {
    /// The tensors of `role` by name.
    pub fn role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        let all = self.tensors.iter();
        all.filter_map(move |(key, tensor)| Some((key.strip_prefix(role)?.strip_prefix('/')?, tensor)))
    }
}

/// The cases of `groups`, in the order of the index.
pub fn cases(groups: &[&str]) -> Result<Vec<Case>, String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let read = |name: &str| fs::read(folder.join(name)).map_err(|error| format!("tests/golden/{name}: {error}"));
    let index: Value =
        serde_json::from_slice(&read("index.json")?).map_err(|error| format!("tests/golden/index.json: {error}"))?;
    let rows = index["cases"].as_array().ok_or("tests/golden/index.json: `cases` is no list")?;
    let mut files = BTreeMap::new();
    for group in groups {
        files.insert(*group, read(&format!("{group}.safetensors"))?);
    }
    let mut open = BTreeMap::new();
    for (group, bytes) in &files {
        let file = SafeTensors::deserialize(bytes).map_err(|error| format!("{group}.safetensors: {error}"))?;
        open.insert(*group, file);
    }
    let mut cases = Vec::new();
    for row in rows {
        let text = |key: &str| row[key].as_str().map(String::from).ok_or(format!("a case without `{key}`: {row}"));
        let (name, group) = (text("name")?, text("group")?);
        let Some(file) = open.get(&group[..]) else { continue };
        let listed = row["tensors"].as_object().ok_or(format!("{name}: `tensors` is no object"))?;
        let mut tensors = BTreeMap::new();
        for key in listed.keys() {
            let view = file.tensor(&format!("{name}/{key}")).map_err(|error| format!("{name}/{key}: {error}"))?;
            tensors.insert(key.clone(), tensor(&view).map_err(|error| format!("{name}/{key}: {error}"))?);
        }
        let attributes = row["attributes"].as_object().ok_or(format!("{name}: `attributes` is no object"))?;
        cases.push(Case {
            operation: text("operation")?,
            attributes: Attributes(attributes.clone()),
            name,
            group,
            tensors,
        });
    }
    Ok(cases)
}

/// A tensor of the file as one of ours, of the same dtype.
fn tensor(view: &TensorView) -> Result<Tensor, String> {
    let (data, shape) = (view.data(), Shape::from(view.shape()));
    fn parts<const N: usize, T>(data: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
        data.chunks_exact(N).map(|part| read(part.try_into().expect("chunks have this size"))).collect()
    }
    Ok(match view.dtype() {
        Dtype::F32 => Tensor::from_slice(&parts(data, f32::from_le_bytes), shape),
        Dtype::F64 => Tensor::from_slice(&parts(data, f64::from_le_bytes), shape),
        Dtype::I32 => Tensor::from_slice(&parts(data, i32::from_le_bytes), shape),
        Dtype::I64 => Tensor::from_slice(&parts(data, i64::from_le_bytes), shape),
        Dtype::U8 => Tensor::from_slice(data, shape),
        Dtype::BOOL => Tensor::from_slice(data, shape).to(DType::Bool),
        other => return Err(format!("dtype {other:?} is not among the golden files' own")),
    })
}
