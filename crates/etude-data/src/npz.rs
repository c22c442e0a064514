//! NPZ, NumPy's format for several named arrays: a zip file of NPY files, stored or deflated.

use crate::input::{DAMAGED, Input, MOST_BYTES, write_whole};
use crate::{Array, Error, Result, npy};
use std::io::Read;
use std::path::Path;

/// Reads every array of an NPZ file, in the file's order, with its name (without `.npy`).
pub fn read(path: impl AsRef<Path>) -> Result<Vec<(String, Array)>> {
    let mut input = Input::open(path.as_ref())?;
    let bytes = input.rest(MOST_BYTES)?;
    parse(&input.place, &bytes)
}

/// Reads NPZ from memory; `place` names it in errors.
pub fn parse(place: &str, bytes: &[u8]) -> Result<Vec<(String, Array)>> {
    let mut arrays = Vec::new();
    let mut left = MOST_BYTES;
    for entry in entries(place, bytes)? {
        let Some(name) = entry.name.strip_suffix(".npy") else { continue };
        let contents = unpack(place, bytes, &entry, left)?;
        left -= contents.len() as u64;
        arrays.push((name.to_string(), npy::parse(&format!("{place}/{}", entry.name), &contents)?));
    }
    Ok(arrays)
}

/// Writes an NPZ file that NumPy reads, whole or not at all; the arrays are not compressed, as with `numpy.savez`.
pub fn write(path: impl AsRef<Path>, arrays: &[(&str, &Array)]) -> Result<()> {
    let path = path.as_ref();
    write_whole(path, &bytes_of(&path.display().to_string(), arrays)?)
}

/// What [`write()`] writes; `place` names it in errors.
pub fn bytes_of(place: &str, arrays: &[(&str, &Array)]) -> Result<Vec<u8>> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (index, (name, array)) in arrays.iter().enumerate() {
        if name.is_empty() || arrays[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(Error::new(
                place,
                format!("the array name `{name}` is empty or used twice"),
                "give it another",
            ));
        }
        let contents = npy::bytes_of(array);
        let name = format!("{name}.npy");
        let limit = u32::MAX as usize;
        if contents.len() + out.len() + (1 << 20) > limit || name.len() > 1000 || arrays.len() > 60_000 {
            return Err(Error::new(place, "is too large for one NPZ file", "write an NPY file for each array"));
        }
        let mut sum = flate2::Crc::new();
        sum.update(&contents);
        // What both headers of an entry share: version, flags (names are UTF-8), method 0, a fixed date (1980-01-01).
        let mut common = Vec::new();
        for half in [20u16, 0x0800, 0, 0, 0x21] {
            common.extend_from_slice(&half.to_le_bytes());
        }
        for word in [sum.sum(), contents.len() as u32, contents.len() as u32] {
            common.extend_from_slice(&word.to_le_bytes());
        }
        common.extend_from_slice(&(name.len() as u16).to_le_bytes());
        common.extend_from_slice(&[0, 0]);
        let offset = out.len() as u32;
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&contents);
        directory.extend_from_slice(b"PK\x01\x02\x14\x00");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    for half in [arrays.len() as u16; 2] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    Ok(out)
}

struct Entry {
    name: String,
    deflated: bool,
    sum: u32,
    packed: u64,
    size: u64,
    header: u64,
}

/// Little-endian numbers out of a slice; `None` past its end.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// Reads the central directory at the end of a zip file.
fn entries(place: &str, bytes: &[u8]) -> Result<Vec<Entry>> {
    let foreign = || Error::new(place, "not an NPZ file, or cut short", "save it with numpy.savez, or fetch it again");
    let damaged = || Error::new(place, "the list of arrays at the file's end is damaged", DAMAGED);
    // The end record is 22 bytes and a comment of at most 65,535.
    let last = bytes.len().checked_sub(22).ok_or_else(foreign)?;
    let is_end = |at: &usize| {
        bytes[*at..].starts_with(b"PK\x05\x06") && number(bytes, at + 20, 2) == Some((bytes.len() - at - 22) as u64)
    };
    let end = (last.saturating_sub(65_535)..=last).rev().find(is_end).ok_or_else(foreign)?;
    let mut count = number(bytes, end + 10, 2).ok_or_else(damaged)?;
    let mut at = number(bytes, end + 16, 4).ok_or_else(damaged)?;
    let locator = end.checked_sub(20).filter(|&locator| bytes[locator..].starts_with(b"PK\x06\x07"));
    if let Some(locator) = locator {
        let record = number(bytes, locator + 8, 8).and_then(|at| usize::try_from(at).ok()).ok_or_else(damaged)?;
        if !bytes.get(record..).is_some_and(|rest| rest.starts_with(b"PK\x06\x06")) {
            return Err(damaged());
        }
        count = number(bytes, record + 32, 8).ok_or_else(damaged)?;
        at = number(bytes, record + 48, 8).ok_or_else(damaged)?;
    }
    let mut at = usize::try_from(at).map_err(|_| damaged())?;
    let mut entries = Vec::new();
    for _ in 0..count {
        if !bytes.get(at..).is_some_and(|rest| rest.starts_with(b"PK\x01\x02")) {
            return Err(damaged());
        }
        let field = |offset, length| number(bytes, at + offset, length).ok_or_else(damaged);
        let name_length = field(28, 2)? as usize;
        let extra_length = field(30, 2)? as usize;
        let name = bytes.get(at + 46..at + 46 + name_length).ok_or_else(damaged)?;
        let name = String::from_utf8_lossy(name).into_owned();
        let extra = bytes.get(at + 46 + name_length..at + 46 + name_length + extra_length).ok_or_else(damaged)?;
        let mut entry = Entry {
            deflated: match (field(8, 2)? & 1, field(10, 2)?) {
                (0, 0) => false,
                (0, 8) => true,
                _ => {
                    let problem = format!("`{name}` is encrypted or packed by a method other than deflate");
                    return Err(Error::new(place, problem, "save it with numpy.savez or numpy.savez_compressed"));
                }
            },
            name,
            sum: field(16, 4)? as u32,
            packed: field(20, 4)?,
            size: field(24, 4)?,
            header: field(42, 4)?,
        };
        widen(&mut entry, extra).ok_or_else(damaged)?;
        entries.push(entry);
        at += 46 + name_length + extra_length + field(32, 2)? as usize;
    }
    Ok(entries)
}

/// Takes sizes and offset of files above 4 GiB from the extra field 0001, which holds those that did not fit.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> Option<()> {
    while extra.len() >= 4 {
        let length = number(extra, 2, 2)? as usize;
        if extra.starts_with(&[1, 0]) {
            let mut at = 4;
            for field in [&mut entry.size, &mut entry.packed, &mut entry.header] {
                if *field == u64::from(u32::MAX) {
                    *field = number(extra.get(..4 + length)?, at, 8)?;
                    at += 8;
                }
            }
        }
        extra = extra.get(4 + length..)?;
    }
    Some(())
}

/// The contents of an entry, its size and checksum verified, at most `most` bytes.
fn unpack(place: &str, bytes: &[u8], entry: &Entry, most: u64) -> Result<Vec<u8>> {
    let error = |problem: &str| Error::new(format!("{place}/{}", entry.name), problem, DAMAGED);
    let find = || {
        let header = usize::try_from(entry.header).ok()?;
        if !bytes.get(header..)?.starts_with(b"PK\x03\x04") {
            return None;
        }
        let names = number(bytes, header + 26, 2)? + number(bytes, header + 28, 2)?;
        let start = header + 30 + names as usize;
        bytes.get(start..start.checked_add(usize::try_from(entry.packed).ok()?)?)
    };
    let packed = find().ok_or_else(|| error("lies outside the file"))?;
    if entry.size > most {
        let advice = "keep large arrays in NPY files";
        return Err(Error::new(place, format!("unpacks to more than {} GiB", MOST_BYTES >> 30), advice));
    }
    let mut contents = Vec::new();
    if entry.deflated {
        let read =
            flate2::read::DeflateDecoder::new(packed).take(entry.size.saturating_add(1)).read_to_end(&mut contents);
        read.map_err(|_| error("cannot be unpacked"))?;
    } else {
        contents.extend_from_slice(packed);
    }
    let mut sum = flate2::Crc::new();
    sum.update(&contents);
    if contents.len() as u64 != entry.size || sum.sum() != entry.sum {
        return Err(error("the size or checksum does not match"));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Values;
    use crate::input::tests::{TestFolder, torment};
    use crate::npy::tests::one_of_each;

    #[test]
    fn what_is_written_is_read() {
        let folder = TestFolder::new("npz");
        let path = folder.0.join("a.npz");
        let names = ["a", "b/c", "ünïcode", "d", "e", "f", "g"];
        let arrays = one_of_each();
        let pairs: Vec<(&str, &Array)> = names.into_iter().zip(&arrays).collect();
        write(&path, &pairs).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back.len(), 7);
        for ((name, array), (expected_name, expected)) in back.iter().zip(&pairs) {
            assert_eq!((name.as_str(), array), (*expected_name, *expected));
        }
        assert!(parse("memory", &bytes_of("memory", &[]).unwrap()).unwrap().is_empty());
        let twice = [("a", &arrays[0]), ("a", &arrays[1])];
        assert!(bytes_of("memory", &twice).unwrap_err().to_string().contains("used twice"));
    }

    /// What `numpy.savez_compressed(file, x=numpy.arange(6).reshape(2, 3).astype('f4'), y=numpy.int64(7))` wrote.
    const BY_NUMPY: &[u8] = include_bytes!("../tests/numpy-compressed.npz");

    #[test]
    fn what_numpy_wrote_is_read() {
        let arrays = parse("memory", BY_NUMPY).unwrap();
        assert_eq!(arrays[0].0, "x");
        assert_eq!(arrays[0].1, Array::new([2, 3], Values::F32(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])).unwrap());
        assert_eq!(arrays[1], ("y".to_string(), Array::new([], Values::I64(vec![7])).unwrap()));
    }

    #[test]
    fn damaged_files_are_refused() {
        let refused = torment(BY_NUMPY, |bytes| parse("memory", bytes), |_| true);
        assert!(refused > BY_NUMPY.len() * 3 / 2, "{refused} of {}", BY_NUMPY.len() * 3);
        let array = one_of_each().remove(1);
        let valid = bytes_of("memory", &[("weights", &array)]).unwrap();
        torment(&valid, |bytes| parse("memory", bytes), |_| true);
    }

    #[test]
    fn a_false_size_is_refused() {
        let mut bytes = BY_NUMPY.to_vec();
        let entry = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        bytes[entry + 24..entry + 28].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
        assert!(parse("memory", &bytes).unwrap_err().to_string().contains("does not match"));
        assert!(parse("memory", b"not a zip file at all, really").unwrap_err().to_string().contains("not an NPZ"));
    }
}
