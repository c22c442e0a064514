//! CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky, 2009): records of one or two label bytes and
//! 3 × 32 × 32 pixel bytes, red, green, blue.

use crate::input::{Input, MOST_TEXT};
use crate::{Array, Result, Values};
use std::path::Path;

const PIXELS: usize = 3 * 32 * 32;

/// Which of the two sets a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ten classes, one label byte.
    Ten,
    /// A hundred classes, a coarse label byte (20 groups) before the fine one.
    Hundred,
}

/// The contents of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// The images, `[count, 3, 32, 32]`, `U8`.
    pub images: Array,
    /// The class of each.
    pub labels: Vec<i64>,
    /// The group of each, CIFAR-100 only.
    pub groups: Vec<i64>,
}

/// Reads one binary file such as `data_batch_1.bin` or `train.bin`, plain or gzipped.
pub fn read(path: impl AsRef<Path>, kind: Kind) -> Result<Records> {
    read_input(Input::open(path.as_ref())?, kind)
}

/// Reads the same from memory; `place` names it in errors.
pub fn parse(place: &str, bytes: &[u8], kind: Kind) -> Result<Records> {
    read_input(Input::memory(place, bytes)?, kind)
}

fn read_input(mut input: Input, kind: Kind) -> Result<Records> {
    let (label_bytes, classes) = match kind {
        Kind::Ten => (1, 10),
        Kind::Hundred => (2, 100),
    };
    let bytes = input.rest(MOST_TEXT)?;
    let size = label_bytes + PIXELS;
    if bytes.is_empty() || bytes.len() % size != 0 {
        let problem = format!("{} bytes are not a whole number of CIFAR-{classes} records of {size}", bytes.len());
        return Err(input.error(problem, "use the binary version, and fetch it again if it was cut short"));
    }
    let count = bytes.len() / size;
    let mut pixels = Vec::with_capacity(count * PIXELS);
    let (mut labels, mut groups) = (Vec::with_capacity(count), Vec::new());
    for (at, record) in bytes.chunks_exact(size).enumerate() {
        let label = record[label_bytes - 1];
        if usize::from(label) >= classes || (kind == Kind::Hundred && record[0] >= 20) {
            let problem = format!("record {at} has the labels {:?}", &record[..label_bytes]);
            return Err(input.error(problem, format!("it is not a CIFAR-{classes} file")));
        }
        labels.push(i64::from(label));
        if kind == Kind::Hundred {
            groups.push(i64::from(record[0]));
        }
        pixels.extend_from_slice(&record[label_bytes..]);
    }
    Ok(Records { images: Array::new([count, 3, 32, 32], Values::U8(pixels))?, labels, groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::gzip;

    fn file(labels: &[u8], count: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|record| labels.iter().copied().chain((0..PIXELS).map(move |pixel| (pixel * 7 + record) as u8)))
            .collect()
    }

    #[test]
    fn both_kinds_are_read() {
        let ten = parse("memory", &file(&[9], 2), Kind::Ten).unwrap();
        assert_eq!((ten.images.shape.as_slice(), ten.labels.as_slice()), (&[2, 3, 32, 32][..], &[9, 9][..]));
        assert!(ten.groups.is_empty());
        let Values::U8(pixels) = &ten.images.values else { panic!("not bytes") };
        assert_eq!((pixels[1], pixels[PIXELS]), (7, 1));
        let hundred = parse("memory", &gzip(&file(&[19, 99], 3)), Kind::Hundred).unwrap();
        assert_eq!((hundred.labels, hundred.groups), (vec![99; 3], vec![19; 3]));
    }

    #[test]
    fn foreign_and_cut_files_are_refused() {
        let error = |bytes: &[u8], kind| parse("memory", bytes, kind).unwrap_err().to_string();
        assert!(error(&file(&[10], 1), Kind::Ten).contains("record 0 has the labels [10]"));
        assert!(error(&file(&[20, 1], 1), Kind::Hundred).contains("[20, 1]"));
        assert!(error(&file(&[1], 2), Kind::Hundred).contains("not a whole number"));
        assert!(error(&[], Kind::Ten).contains("not a whole number"));
        let valid = file(&[1], 1);
        assert!((0..valid.len()).all(|length| parse("memory", &valid[..length], Kind::Ten).is_err()));
    }
}
