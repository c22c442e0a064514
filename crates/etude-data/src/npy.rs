//! NPY, NumPy's format for one array (NumPy Enhancement Proposal 1): a magic string, a Python dictionary, the values.

use crate::array::element_count;
use crate::input::{Input, write_whole};
use crate::{Array, Result, Values};
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer headers than this belong to structured types, which are refused anyway.
const LONGEST_HEADER: usize = 1 << 16;

/// Reads an NPY file, plain or gzipped.
///
/// Integers of 8 and 16 bits other than `uint8` become `I32`, `uint32` and `uint64` become `I64` (an error when one
/// does not fit), `float16` becomes `F32`. Either byte order and Fortran order are understood.
pub fn read(path: impl AsRef<Path>) -> Result<Array> {
    read_input(Input::open(path.as_ref())?)
}

/// Reads NPY from memory; `place` names it in errors.
pub fn parse(place: &str, bytes: &[u8]) -> Result<Array> {
    read_input(Input::memory(place, bytes)?)
}

/// Writes an NPY file that NumPy reads, whole or not at all.
pub fn write(path: impl AsRef<Path>, array: &Array) -> Result<()> {
    write_whole(path.as_ref(), &bytes_of(array))
}

/// What [`write()`] writes: version 1.0, little-endian, the values at a multiple of 64 bytes.
pub fn bytes_of(array: &Array) -> Vec<u8> {
    let (code, size) = match array.values {
        Values::U8(_) => ("|u1", 1),
        Values::F32(_) => ("<f4", 4),
        Values::F64(_) => ("<f8", 8),
        Values::I32(_) => ("<i4", 4),
        Values::I64(_) => ("<i8", 8),
        Values::Bool(_) => ("|b1", 1),
    };
    let mut shape = array.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if array.shape.len() == 1 {
        shape.push(',');
    }
    let mut header = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({shape}), }}");
    while !(MAGIC.len() + 4 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + header.len() + array.values.len() * size);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    match &array.values {
        Values::U8(v) => bytes.extend_from_slice(v),
        Values::F32(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Values::F64(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Values::I32(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Values::I64(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Values::Bool(v) => bytes.extend(v.iter().map(|&x| u8::from(x))),
    }
    bytes
}

fn read_input(mut input: Input) -> Result<Array> {
    let start = input.exactly(8, "header")?;
    if !start.starts_with(MAGIC) {
        return Err(input.error("not an NPY file", "save it with numpy.save"));
    }
    let length = match start[6] {
        1 => {
            let bytes = input.exactly(2, "header")?;
            usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))
        }
        2 | 3 => {
            let bytes = input.exactly(4, "header")?;
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
        }
        version => return Err(input.error(format!("NPY version {version} is unknown"), "save it with numpy.save")),
    };
    if length > LONGEST_HEADER {
        return Err(input.error(format!("claims a header of {length} bytes"), "the file is damaged"));
    }
    let text = input.exactly(length, "header")?;
    let header = match Header::parse(&String::from_utf8_lossy(&text)) {
        Ok(header) => header,
        Err(problem) => return Err(input.error(problem, "save a plain array with numpy.save")),
    };
    let Some((size, convert)) = conversion(&header.kind) else {
        let problem = format!("holds elements of type `{}`", header.kind);
        let advice = "save numbers or truth values: array.astype('float32') first, no objects, no strings";
        return Err(input.error(problem, advice));
    };
    let count = element_count(&header.shape);
    let Some((count, total)) = count.and_then(|count| Some((count, count.checked_mul(size)?))) else {
        return Err(input.error(format!("claims the shape {:?}", header.shape), "the header is damaged"));
    };
    let mut bytes = input.exactly(total, &format!("values of shape {:?}", header.shape))?;
    input.finish()?;
    if header.kind.starts_with('>') {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    if header.fortran && header.shape.len() > 1 && count > 0 {
        bytes = row_major(&bytes, &header.shape, size);
    }
    match convert(&bytes) {
        Some(values) => Array::new(header.shape, values),
        None => Err(input.error("holds an unsigned number above 9223372036854775807", "save it as float64")),
    }
}

type Convert = fn(&[u8]) -> Option<Values>;

/// The element size and the conversion from little-endian bytes for a NumPy type code.
fn conversion(kind: &str) -> Option<(usize, Convert)> {
    let code = kind.strip_prefix(['<', '>', '|', '=']).unwrap_or(kind);
    let convert: Convert = match code {
        "u1" => |b| Some(Values::U8(b.to_vec())),
        "b1" => |b| Some(Values::Bool(b.iter().map(|&x| x != 0).collect())),
        "i1" => |b| Some(Values::I32(b.iter().map(|&x| i32::from(x as i8)).collect())),
        "i2" => |b| Some(Values::I32(words(b).map(|w| i32::from(i16::from_le_bytes(w))).collect())),
        "u2" => |b| Some(Values::I32(words(b).map(|w| i32::from(u16::from_le_bytes(w))).collect())),
        "i4" => |b| Some(Values::I32(words(b).map(i32::from_le_bytes).collect())),
        "u4" => |b| Some(Values::I64(words(b).map(|w| i64::from(u32::from_le_bytes(w))).collect())),
        "i8" => |b| Some(Values::I64(words(b).map(i64::from_le_bytes).collect())),
        "u8" => |b| words(b).map(|w| i64::try_from(u64::from_le_bytes(w)).ok()).collect::<Option<_>>().map(Values::I64),
        "f2" => |b| Some(Values::F32(words(b).map(|w| half(u16::from_le_bytes(w))).collect())),
        "f4" => |b| Some(Values::F32(words(b).map(f32::from_le_bytes).collect())),
        "f8" => |b| Some(Values::F64(words(b).map(f64::from_le_bytes).collect())),
        _ => return None,
    };
    let size = code[1..].parse().ok()?;
    Some((size, convert))
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// IEEE 754 binary16 to binary32, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3ff);
    match (bits >> 10) & 0x1f {
        0 => sign * fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        exponent => sign * (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    }
}

/// Reorders values stored with the first dimension running fastest.
fn row_major(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut strides = vec![size; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    while out.len() < bytes.len() {
        out.extend_from_slice(&bytes[at..at + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

struct Header {
    kind: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses the dictionary, e.g. `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &str) -> std::result::Result<Header, String> {
        let broken = || format!("the header is not understood: {:.80}", text.trim_end());
        let body = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(broken)?;
        let (mut kind, mut fortran, mut shape) = (None, None, None);
        let mut rest = body.trim();
        while !rest.is_empty() {
            let (key, after) = quoted(rest).ok_or_else(broken)?;
            let value = after.trim_start().strip_prefix(':').ok_or_else(broken)?.trim_start();
            let after = match key {
                "descr" if value.starts_with('[') => return Err("holds a structured type".to_string()),
                "descr" => {
                    let (text, after) = quoted(value).ok_or_else(broken)?;
                    kind = Some(text.to_string());
                    after
                }
                "fortran_order" => {
                    let is_true = value.starts_with("True");
                    fortran = Some(is_true);
                    value.strip_prefix(if is_true { "True" } else { "False" }).ok_or_else(broken)?
                }
                "shape" => {
                    let (inside, after) =
                        value.strip_prefix('(').ok_or_else(broken)?.split_once(')').ok_or_else(broken)?;
                    let lengths = inside.split(',').map(str::trim).filter(|text| !text.is_empty());
                    let lengths: std::result::Result<Vec<usize>, _> = lengths.map(str::parse).collect();
                    shape = Some(lengths.map_err(|_| broken())?);
                    after
                }
                _ => return Err(broken()),
            };
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if after.is_empty() => after,
                None => return Err(broken()),
            };
        }
        match (kind, fortran, shape) {
            (Some(kind), Some(fortran), Some(shape)) => Ok(Header { kind, fortran, shape }),
            _ => Err(broken()),
        }
    }
}

/// Splits a Python string literal without escapes off the front of `text`.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next().filter(|mark| matches!(mark, '\'' | '"'))?;
    text[1..].split_once(mark)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::input::tests::{TestFolder, gzip, torment};

    fn file(header: &str, values: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(values);
        bytes
    }

    pub(crate) fn one_of_each() -> Vec<Array> {
        vec![
            Array::new([2, 2], Values::U8(vec![0, 1, 254, 255])).unwrap(),
            Array::new([3], Values::F32(vec![0.1, f32::MAX, -0.0])).unwrap(),
            Array::new([1, 2, 1], Values::F64(vec![0.1, f64::MIN_POSITIVE])).unwrap(),
            Array::new([2], Values::I32(vec![i32::MIN, i32::MAX])).unwrap(),
            Array::new([], Values::I64(vec![i64::MIN])).unwrap(),
            Array::new([2], Values::Bool(vec![true, false])).unwrap(),
            Array::new([0, 3], Values::F32(vec![])).unwrap(),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = TestFolder::new("npy");
        let path = folder.0.join("a.npy");
        for array in one_of_each() {
            write(&path, &array).unwrap();
            assert_eq!(read(&path).unwrap(), array);
            assert_eq!(parse("memory", &gzip(&bytes_of(&array))).unwrap(), array);
        }
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
        assert_eq!(bytes_of(&one_of_each()[0]).len(), 128 + 4);
    }

    #[test]
    fn the_header_numpy_writes_is_the_one_written_here() {
        let bytes = bytes_of(&Array::new([3], Values::F32(vec![0.0; 3])).unwrap());
        assert!(bytes[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }  "));
        assert_eq!(bytes[127], b'\n');
    }

    #[test]
    fn other_types_and_orders_are_converted() {
        let check = |kind: &str, values: &[u8], expected: Values| {
            let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({},)}}", expected.len());
            assert_eq!(parse("memory", &file(&header, values)).unwrap().values, expected, "{kind}");
        };
        check("|i1", &[255], Values::I32(vec![-1]));
        check(">i2", &[255, 254], Values::I32(vec![-2]));
        check("<u2", &[255, 255], Values::I32(vec![65535]));
        check("<u4", &[255; 4], Values::I64(vec![4_294_967_295]));
        check(">f4", &1.5f32.to_be_bytes(), Values::F32(vec![1.5]));
        check(
            ">f8",
            &[-1.5f64, 2.0].iter().flat_map(|x| x.to_be_bytes()).collect::<Vec<_>>(),
            Values::F64(vec![-1.5, 2.0]),
        );
        check("<u8", &7u64.to_le_bytes(), Values::I64(vec![7]));
        let halves: Vec<u8> =
            [0x3c00u16, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x3555].iter().flat_map(|x| x.to_le_bytes()).collect();
        let expected = vec![1.0, -2.0, 5.960_464_5e-8, 65504.0, f32::INFINITY, 0.333_251_95];
        check("<f2", &halves, Values::F32(expected));
        let fortran = file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", &[1, 4, 2, 5, 3, 6]);
        let expected = Array::new([2, 3], Values::U8(vec![1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(parse("memory", &fortran).unwrap(), expected);
        let cube = file("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 1, 2)}", &[1, 0, 3, 0, 2, 0, 4, 0]);
        assert_eq!(parse("memory", &cube).unwrap().values, Values::I32(vec![1, 2, 3, 4]));
    }

    #[test]
    fn damaged_files_are_refused() {
        for array in one_of_each() {
            let valid = bytes_of(&array);
            let refused = torment(&valid, |bytes| parse("memory", bytes), |_| true);
            assert!(refused > 100, "{refused}");
        }
    }

    #[test]
    fn absurd_and_foreign_headers_are_refused() {
        let error = |bytes: &[u8]| parse("memory", bytes).unwrap_err().to_string();
        let with = |kind: &str, shape: &str| {
            error(&file(&format!("{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"), &[0; 8]))
        };
        assert!(with("'<f4'", "(18446744073709551615, 18446744073709551615)").contains("claims the shape"));
        assert!(with("'<f4'", "(4611686018427387904,)").contains("claims the shape"));
        assert!(with("'<f4'", "(999999999,)").contains("ends within the values"));
        assert!(with("'<f4'", "(-1,)").contains("not understood"));
        assert!(with("'|O'", "(1,)").contains("type `|O`"));
        assert!(with("'<U3'", "(1,)").contains("type `<U3`"));
        assert!(with("[('a', '<f4')]", "(1,)").contains("structured"));
        assert!(error(b"GIF89a, which is something else").contains("not an NPY file"));
        assert!(
            error(&file("{'descr': '<u8', 'fortran_order': False, 'shape': (1,), }", &[255; 8])).contains("unsigned")
        );
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend_from_slice(&[255; 4]);
        assert!(error(&long).contains("claims a header"));
    }
}
