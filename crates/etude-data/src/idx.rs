//! IDX, the format of MNIST: big-endian, a type byte, a number of dimensions, their lengths, the values.

use crate::array::element_count;
use crate::input::Input;
use crate::{Array, Result, Values};
use std::path::Path;

/// Reads an IDX file, plain or gzipped. Signed bytes and 16-bit numbers become `I32`.
pub fn read(path: impl AsRef<Path>) -> Result<Array> {
    read_input(Input::open(path.as_ref())?)
}

/// Reads IDX from memory, plain or gzipped; `place` names it in errors.
pub fn parse(place: &str, bytes: &[u8]) -> Result<Array> {
    read_input(Input::memory(place, bytes)?)
}

fn read_input(mut input: Input) -> Result<Array> {
    let start = input.exactly(4, "header")?;
    let (kind, rank) = (start[2], usize::from(start[3]));
    let size = match (start[0], start[1], kind) {
        (0, 0, 0x08 | 0x09) => 1,
        (0, 0, 0x0b) => 2,
        (0, 0, 0x0c | 0x0d) => 4,
        (0, 0, 0x0e) => 8,
        _ => {
            let problem = format!("not an IDX file: it starts with {start:02x?}");
            return Err(input.error(problem, "IDX starts with 00 00, a type byte 08..0e and the number of dimensions"));
        }
    };
    let lengths = input.exactly(rank * 4, "header")?;
    let shape: Vec<usize> = lengths
        .chunks_exact(4)
        .map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
        .collect();
    let Some(total) = element_count(&shape).and_then(|count| count.checked_mul(size)) else {
        return Err(input.error(format!("claims the shape {shape:?}, which no file can hold"), "the header is damaged"));
    };
    let bytes = input.exactly(total, &format!("values of shape {shape:?}"))?;
    input.finish()?;
    let values = match kind {
        0x08 => Values::U8(bytes),
        0x09 => Values::I32(bytes.iter().map(|&byte| i32::from(byte as i8)).collect()),
        0x0b => Values::I32(words(&bytes).map(|b| i32::from(i16::from_be_bytes(b))).collect()),
        0x0c => Values::I32(words(&bytes).map(i32::from_be_bytes).collect()),
        0x0d => Values::F32(words(&bytes).map(f32::from_be_bytes).collect()),
        _ => Values::F64(words(&bytes).map(f64::from_be_bytes).collect()),
    };
    Array::new(shape, values)
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::{gzip, torment};

    fn file(kind: u8, shape: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, kind, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|length| length.to_be_bytes()));
        bytes.extend_from_slice(values);
        bytes
    }

    #[test]
    fn every_type_is_read() {
        let check = |kind, shape: &[u32], values: &[u8], expected: Values| {
            let array = parse("memory", &file(kind, shape, values)).unwrap();
            assert_eq!(array.values, expected);
            assert_eq!(array.shape, shape.iter().map(|&x| x as usize).collect::<Vec<_>>());
            assert_eq!(parse("memory", &gzip(&file(kind, shape, values))).unwrap(), array);
        };
        check(0x08, &[2, 3], &[1, 2, 3, 4, 5, 255], Values::U8(vec![1, 2, 3, 4, 5, 255]));
        check(0x09, &[2], &[1, 255], Values::I32(vec![1, -1]));
        check(0x0b, &[2], &[0, 1, 255, 254], Values::I32(vec![1, -2]));
        check(0x0c, &[1], &[0, 0, 1, 0], Values::I32(vec![256]));
        check(0x0d, &[1], &1.5f32.to_be_bytes(), Values::F32(vec![1.5]));
        check(0x0e, &[1], &(-2.5f64).to_be_bytes(), Values::F64(vec![-2.5]));
        check(0x08, &[0, 28, 28], &[], Values::U8(vec![]));
        check(0x08, &[], &[9], Values::U8(vec![9]));
    }

    #[test]
    fn damaged_files_are_refused() {
        let valid = file(0x0b, &[3, 2], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let refused = torment(&valid, |bytes| parse("memory", bytes), |_| true);
        assert!(refused >= 12 * 3 - 3, "{refused}"); // any flip in the header but some of the type byte
        torment(&gzip(&valid), |bytes| parse("memory", bytes), |_| true);
    }

    #[test]
    fn absurd_and_foreign_headers_are_refused() {
        let error = |bytes: &[u8]| parse("memory", bytes).unwrap_err().to_string();
        assert!(error(&file(8, &[u32::MAX, 3], &[1, 2])).contains("ends within"));
        assert!(error(&file(8, &[u32::MAX, u32::MAX], &[1, 2])).contains("claims 18446744065119617025 bytes"));
        assert!(error(&file(0x0e, &[u32::MAX; 255], &[1, 2])).contains("no file can hold"));
        assert!(error(b"PK\x03\x04 something else").contains("not an IDX file"));
        assert!(error(&file(8, &[1], &[1, 2])).contains("more than its header says"));
    }
}
