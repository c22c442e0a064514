//! Weights in files: safetensors out and in, with errors that say which tensor does not fit and why.

use crate::Module;
use crate::module::{Entry, walk};
use etude_core::{Buffer, DType, Error, Result, Shape, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;

/// What [`Module::load_with`] lets pass.
#[derive(Clone, Default, Debug)]
pub struct LoadOptions {
    /// Paths of the model, whole or by their beginning, that keep their values.
    pub skip: Vec<String>,
    /// Beginnings of names in the file and what they are called in the model.
    pub rename: Vec<(String, String)>,
    /// Whether tensors of the file that the model does not have are passed over.
    pub allow_extra: bool,
}

fn dtype_in_file(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

/// The bytes of a safetensors file that holds `tensors`.
pub fn to_bytes(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let values: Vec<Tensor> = tensors.iter().map(|(_, tensor)| tensor.clone()).collect();
    Tensor::eval_all(&values)?;
    let raw: Vec<Vec<u8>> = values.iter().map(Tensor::to_bytes).collect();
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&raw) {
        let view = TensorView::new(dtype_in_file(tensor.dtype()), tensor.shape().to_vec(), bytes);
        views.push((name.as_str(), view.map_err(|error| Error::outside(format!("tensor `{name}`: {error}")))?));
    }
    safetensors::serialize(views, None).map_err(|error| Error::outside(format!("safetensors: {error}")))
}

/// As [`to_bytes`], with floats in half precision: half the size, for weights that are passed on, not trained further.
/// Numbers beyond ±65,504 become infinite.
pub fn half_to_bytes(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let values: Vec<Tensor> = tensors.iter().map(|(_, tensor)| tensor.to(DType::F32)).collect();
    Tensor::eval_all(&values)?;
    let narrow =
        |tensor: &Tensor| tensor.to_vec::<f32>().into_iter().flat_map(|x| f32_to_half(x).to_le_bytes()).collect();
    let raw: Vec<Vec<u8>> = values.iter().map(narrow).collect();
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&raw) {
        let view = TensorView::new(Dtype::F16, tensor.shape().to_vec(), bytes);
        views.push((name.as_str(), view.map_err(|error| Error::outside(format!("tensor `{name}`: {error}")))?));
    }
    safetensors::serialize(views, None).map_err(|error| Error::outside(format!("safetensors: {error}")))
}

/// Writes `tensors` to a safetensors file. The file appears whole or not at all.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let bytes = to_bytes(tensors)?;
    let failed = |error: std::io::Error| Error::outside(format!("{}: cannot be written: {error}", path.display()));
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path)).map_err(|error| {
        let _ = std::fs::remove_file(&part);
        failed(error)
    })
}

/// Reads every tensor of a safetensors file by name. `F16` and `BF16` become `f32`.
pub fn read_tensors(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    let path = path.as_ref();
    let bytes =
        std::fs::read(path).map_err(|error| Error::outside(format!("{}: cannot be read: {error}", path.display())))?;
    from_bytes(&bytes, &path.display().to_string())
}

/// Reads tensors from the bytes of a safetensors file; `name` is what errors call it.
pub fn from_bytes(bytes: &[u8], name: &str) -> Result<HashMap<String, Tensor>> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| Error::outside(format!("{name}: not a whole safetensors file ({error}); fetch it again")))?;
    let mut tensors = HashMap::new();
    for (tensor, view) in file.tensors() {
        if view.shape().len() > etude_core::shape::MAX_RANK {
            return Err(Error::outside(format!("{name}: tensor `{tensor}` has too many axes: {:?}", view.shape())));
        }
        let shape = Shape::new(view.shape());
        let value = match view.dtype() {
            Dtype::F32 => Tensor::from_bytes(view.data(), shape, DType::F32),
            Dtype::F64 => Tensor::from_bytes(view.data(), shape, DType::F64),
            Dtype::I32 => Tensor::from_bytes(view.data(), shape, DType::I32),
            Dtype::I64 => Tensor::from_bytes(view.data(), shape, DType::I64),
            Dtype::U8 => Tensor::from_bytes(view.data(), shape, DType::U8),
            Dtype::BOOL => Tensor::from_bytes(view.data(), shape, DType::Bool),
            Dtype::F16 => half(view.data(), shape, half_to_f32),
            Dtype::BF16 => half(view.data(), shape, |bits| f32::from_bits((bits as u32) << 16)),
            other => {
                return Err(Error::outside(format!("{name}: tensor `{tensor}` is {other:?}, which is not supported")));
            }
        };
        tensors.insert(tensor, value);
    }
    Ok(tensors)
}

fn half(bytes: &[u8], shape: Shape, widen: fn(u16) -> f32) -> Tensor {
    let values: Vec<f32> = bytes.chunks_exact(2).map(|pair| widen(u16::from_le_bytes([pair[0], pair[1]]))).collect();
    Tensor::from_buffer(Buffer::from_slice(&values), shape, DType::F32)
}

/// IEEE half precision, widened exactly.
fn half_to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) = ((bits >> 15) as u32, (bits >> 10 & 31) as u32, (bits & 1023) as u32);
    match exponent {
        0 => (if sign == 1 { -1.0 } else { 1.0 }) * fraction as f32 * 2f32.powi(-24),
        31 => f32::from_bits(sign << 31 | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign << 31 | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The nearest number of IEEE half precision; of two, the even one.
fn f32_to_half(x: f32) -> u16 {
    let (bits, sign) = (x.to_bits() & 0x7fff_ffff, (x.to_bits() >> 16 & 0x8000) as u16);
    if bits > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    // Adding this number aligns the last bit of a number below 2⁻¹⁴ with that of the smallest half.
    let small = 0.5f32;
    let half = if bits < 0x3880_0000 {
        (f32::from_bits(bits) + small).to_bits() - small.to_bits()
    } else {
        // Rounds to ten bits of fraction, then moves the exponent from bias 127 to 15.
        (bits + 0xfff + (bits >> 13 & 1)).wrapping_sub(112 << 23) >> 13
    };
    sign | half.min(0x7c00) as u16
}

/// Gives every parameter and state of `module` its tensor by path; all are checked before any changes.
pub(crate) fn assign(
    module: &(impl Module + ?Sized),
    mut tensors: HashMap<String, Tensor>,
    options: &LoadOptions,
    source: &str,
) -> Result<()> {
    for (from, to) in &options.rename {
        let moved: Vec<String> = tensors.keys().filter(|name| name.starts_with(from)).cloned().collect();
        for name in moved {
            if let Some(tensor) = tensors.remove(&name) {
                tensors.insert(format!("{to}{}", &name[from.len()..]), tensor);
            }
        }
    }
    let skipped = |path: &str| options.skip.iter().any(|start| path.starts_with(start.as_str()));
    let mut wanted: Vec<(String, Shape, DType)> = Vec::new();
    walk(module, &mut |path, entry| {
        let meta = match entry {
            Entry::Param(param) => (param.shape(), param.dtype()),
            Entry::State(state) => (state.get().shape(), state.get().dtype()),
        };
        wanted.push((path.to_string(), meta.0, meta.1));
    });
    for (path, shape, _) in wanted.iter().filter(|(path, ..)| !skipped(path)) {
        match tensors.get(path) {
            None => {
                return Err(Error::outside(format!(
                    "{source}: tensor `{path}` is missing; the model needs it as {shape} (skip it to keep its value)"
                )));
            }
            Some(tensor) if tensor.shape() != *shape => {
                return Err(Error::outside(format!(
                    "{source}: tensor `{path}` is {} in the file, {shape} in the model; \
                     build the model with the file's sizes, or skip `{path}`",
                    tensor.shape()
                )));
            }
            _ => (),
        }
    }
    if !options.allow_extra
        && let Some(extra) = tensors.keys().filter(|name| !wanted.iter().any(|(path, ..)| path == *name)).min()
    {
        return Err(Error::outside(format!(
            "{source}: tensor `{extra}` is not in the model; allow extra tensors to pass over it"
        )));
    }
    walk(module, &mut |path, entry| {
        if skipped(path) {
            return;
        }
        let Some(tensor) = tensors.get(path) else { return };
        match entry {
            Entry::Param(param) => param.set(tensor.to(param.dtype())),
            Entry::State(state) => state.set(tensor.to(state.get().dtype())),
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_widened_exactly() {
        let cases = [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 2f32.powi(-24)), (0x7bff, 65504.0), (0x8000, -0.0)];
        for (bits, value) in cases {
            assert_eq!(half_to_f32(bits), value);
        }
        assert_eq!(half_to_f32(0x7c00), f32::INFINITY);
        assert!(half_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn half_precision_is_rounded_to_the_nearest() {
        for bits in 0..=u16::MAX {
            let value = half_to_f32(bits);
            assert!(value.is_nan() || f32_to_half(value) == bits, "{bits:#x}");
        }
        // Halfway between two numbers to the even one, a little off to the nearer one; beyond the largest to infinity.
        let cases = [(1.0 + 2f32.powi(-11), 0x3c00), (1.0 + 3.0 * 2f32.powi(-11), 0x3c02), (1.000_49, 0x3c01)];
        for (value, bits) in
            cases.into_iter().chain([(65_519.0, 0x7bff), (65_520.0, 0x7c00), (-1e9, 0xfc00), (1e-9, 0)])
        {
            assert_eq!(f32_to_half(value), bits, "{value}");
        }
        assert!(half_to_f32(f32_to_half(f32::NAN)).is_nan());
        let there_and_back =
            from_bytes(&half_to_bytes(&[("w".into(), etude_core::full([3], 0.1))]).unwrap(), "w").unwrap();
        assert_eq!(there_and_back["w"].to_vec::<f32>(), [0.099_975_586; 3]);
    }

    #[test]
    fn a_damaged_file_is_one_clear_error() {
        let bytes = to_bytes(&[("w".into(), etude_core::ones([2, 3]))]).unwrap();
        assert_eq!(from_bytes(&bytes, "w").unwrap()["w"].to_vec::<f32>(), [1.0; 6]);
        for length in 0..bytes.len() {
            let error = from_bytes(&bytes[..length], "w.safetensors").expect_err("a part of a file is not a file");
            assert!(error.to_string().starts_with("w.safetensors: not a whole safetensors file"), "{error}");
        }
    }
}
