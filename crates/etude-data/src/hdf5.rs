//! HDF5 as Keras 3 and h5py write weights: groups and contiguous arrays of floats, in the format's first version.
//!
//! The file is a superblock, then objects by address: a group's B-tree leads to tables of names and objects, an array's
//! header holds shape, element type and where its numbers lie (The HDF Group, "HDF5 File Format Specification",
//! version 3.0, sections II.A, III.A to III.D, IV.A). Chunked or compressed arrays, and the layout of groups that
//! `libver="latest"` writes, are refused; arrays of anything but little-endian `f32` and `f64` are passed over.

use crate::{Array, Error, Result, Values};
use std::path::Path;

/// Reads every float array of a file, each with its path such as `block1/layers/conv2d/vars/0`, in the file's order.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<(String, Array)>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
    parse(&path.display().to_string(), &bytes)
}

/// Reads the same from memory; `place` names it in errors.
pub fn parse(place: &str, bytes: &[u8]) -> Result<Vec<(String, Array)>> {
    let mut file = File { place, bytes, found: Vec::new(), objects: 0, numbers: 0 };
    if bytes.get(..8) != Some(b"\x89HDF\r\n\x1a\n") {
        return Err(file.error("is not HDF5", "give a .h5 file"));
    }
    // Version, and the widths of addresses and lengths.
    if (file.number(8, 1)?, file.number(13, 2)?) != (0, 0x0808) {
        return Err(file.error("is laid out as newer versions do", "save it with h5py's libver=\"earliest\""));
    }
    let root = file.number(64, 8)?;
    file.object(root, "", 0)?;
    Ok(file.found)
}

/// The depth of groups and the number of objects a file may have: what stops a file that leads in circles.
const DEEPEST: usize = 24;
const MOST_OBJECTS: usize = 100_000;

struct File<'a> {
    place: &'a str,
    bytes: &'a [u8],
    found: Vec<(String, Array)>,
    objects: usize,
    /// Bytes of arrays read so far: never more than the file holds.
    numbers: usize,
}

/// What an object's header says about an array.
#[derive(Default)]
struct Header {
    shape: Option<Vec<usize>>,
    /// Bytes an element; only floats have any.
    float: Option<usize>,
    /// Where the numbers lie, and how many bytes.
    place: Option<(u64, usize)>,
    group: Option<(u64, u64)>,
    refused: Option<&'static str>,
}

impl<'a> File<'a> {
    fn error(&self, problem: impl Into<String>, advice: &str) -> Error {
        Error::new(self.place, problem, advice)
    }

    fn slice(&self, at: u64, length: usize) -> Result<&'a [u8]> {
        let start = usize::try_from(at).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(length)?));
        let found = range.and_then(|range| self.bytes.get(range));
        found.ok_or_else(|| self.error(format!("ends before byte {at}"), crate::input::DAMAGED))
    }

    /// A little-endian number of up to eight bytes.
    fn number(&self, at: u64, width: usize) -> Result<u64> {
        let mut whole = [0; 8];
        whole[..width].copy_from_slice(self.slice(at, width)?);
        Ok(u64::from_le_bytes(whole))
    }

    fn tag(&self, at: u64, tag: &[u8; 4]) -> Result<()> {
        if self.slice(at, 4)? == tag {
            return Ok(());
        }
        let tag = String::from_utf8_lossy(tag);
        Err(self.error(format!("has no {tag} at byte {at}"), crate::input::DAMAGED))
    }

    /// A group or an array, and everything in it.
    fn object(&mut self, at: u64, path: &str, depth: usize) -> Result<()> {
        self.objects += 1;
        if depth > DEEPEST || self.objects > MOST_OBJECTS {
            return Err(self.error(format!("leads in circles at `{path}`"), crate::input::DAMAGED));
        }
        let header = self.header(at)?;
        if let Some((tree, heap)) = header.group {
            self.tag(heap, b"HEAP")?;
            let names = self.number(heap.saturating_add(24), 8)?;
            return self.tree(tree, names, path, depth);
        }
        let (Some(shape), Some(width)) = (header.shape, header.float) else { return Ok(()) };
        if let Some(what) = header.refused {
            let advice = "save it without compression: HDF5 is read here for weights only";
            return Err(self.error(format!("`{path}` is {what}"), advice));
        }
        let wanted = shape.iter().try_fold(width, |product, &size| product.checked_mul(size));
        let (start, length) = header.place.unwrap_or((0, 0));
        if wanted != Some(length) {
            return Err(self.error(format!("`{path}` is {shape:?}, but has {length} bytes"), crate::input::DAMAGED));
        }
        self.numbers = self.numbers.saturating_add(length);
        if self.numbers > self.bytes.len() {
            return Err(self.error(format!("holds the bytes of `{path}` twice"), crate::input::DAMAGED));
        }
        let raw = self.slice(start, length)?;
        let values = match width {
            4 => Values::F32(raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            _ => Values::F64(raw.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()),
        };
        self.found.push((path.to_string(), Array::new(shape, values)?));
        Ok(())
    }

    /// The children of a group: a B-tree of tables of names and addresses.
    fn tree(&mut self, at: u64, names: u64, path: &str, depth: usize) -> Result<()> {
        self.objects += 1;
        if depth > DEEPEST || self.objects > MOST_OBJECTS {
            return Err(self.error(format!("leads in circles at `{path}`"), crate::input::DAMAGED));
        }
        self.tag(at, b"TREE")?;
        let (level, count) = (self.number(at + 5, 1)?, self.number(at + 6, 2)?);
        for child in 0..count {
            let child = self.number(at + 24 + 16 * child + 8, 8)?;
            if level > 0 {
                self.tree(child, names, path, depth + 1)?;
                continue;
            }
            self.tag(child, b"SNOD")?;
            for entry in 0..self.number(child + 6, 2)? {
                let entry = child + 8 + 40 * entry;
                let (name, object) = (self.number(entry, 8)?, self.number(entry + 8, 8)?);
                let rest = self.slice(names.saturating_add(name), 0).map(|_| names as usize + name as usize)?;
                let text = self.bytes[rest..].split(|&byte| byte == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(&text[..text.len().min(1024)]);
                let path = if path.is_empty() { name.into_owned() } else { format!("{path}/{name}") };
                self.object(object, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The messages of an object's header, through its continuations.
    fn header(&self, at: u64) -> Result<Header> {
        if self.number(at, 1)? != 1 {
            return Err(self.error("has headers of a newer version", "save it with h5py's libver=\"earliest\""));
        }
        let mut header = Header::default();
        // The first block begins after the prefix, on a multiple of eight.
        let mut blocks = vec![(at + 16, self.number(at + 8, 4)?)];
        let mut next = 0;
        while let Some(&(start, length)) = blocks.get(next) {
            next += 1;
            let (mut at, end) = (start, start.saturating_add(length));
            while at.saturating_add(8) <= end {
                let (kind, size) = (self.number(at, 2)?, self.number(at + 2, 2)?);
                let body = at + 8;
                if kind == 0x10 && blocks.len() < 64 {
                    blocks.push((self.number(body, 8)?, self.number(body + 8, 8)?));
                }
                self.message(kind, body, &mut header)?;
                at = body + size;
            }
        }
        Ok(header)
    }

    fn message(&self, kind: u64, at: u64, header: &mut Header) -> Result<()> {
        match kind {
            // The sizes of the axes.
            0x1 => {
                let (version, rank) = (self.number(at, 1)?, self.number(at + 1, 1)?);
                let first = at + if version == 1 { 8 } else { 4 };
                let size = |axis: u64| self.number(first + 8 * axis, 8).map(|size| size as usize);
                header.shape = Some((0..rank).map(size).collect::<Result<_>>()?);
            }
            // The element type: class 1 is floating-point, bit 0 of the next byte says big-endian.
            0x3 => {
                let (class, big) = (self.number(at, 1)? & 15, self.number(at + 1, 1)? & 1);
                let width = self.number(at + 4, 4)? as usize;
                header.float = Some(width).filter(|width| class == 1 && big == 0 && [4, 8].contains(width));
            }
            // Where the numbers lie.
            0x8 => match (self.number(at, 1)?, self.number(at + 1, 1)?) {
                (3, 0) => header.place = Some((at + 4, self.number(at + 2, 2)? as usize)),
                (3, 1) => header.place = Some((self.number(at + 2, 8)?, self.number(at + 10, 8)? as usize)),
                _ => header.refused = Some("chunked"),
            },
            0xb => header.refused = Some("compressed"),
            0x11 => header.group = Some((self.number(at, 8)?, self.number(at + 8, 8)?)),
            _ => (),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::torment;

    /// Written by h5py 3: `a/b/kernel` f32 [2, 3] of 0 to 5, `a/count` i64, `bias` f64 [2] of 1.5 and −2.
    const SMALL: &[u8] = include_bytes!("../tests/small.h5");

    #[test]
    fn arrays_come_with_their_paths() {
        let found = parse("small.h5", SMALL).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/b/kernel", "bias"]);
        assert_eq!(found[0].1, Array::new([2, 3], Values::F32((0..6).map(|i| i as f32).collect())).unwrap());
        assert_eq!(found[1].1, Array::new([2], Values::F64(vec![1.5, -2.0])).unwrap());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let error = |bytes: &[u8]| parse("x.h5", bytes).unwrap_err().to_string();
        assert!(error(b"PK").contains("x.h5: is not HDF5"));
        let compressed = error(include_bytes!("../tests/compressed.h5"));
        assert!(compressed.contains("`kernel` is") && compressed.contains("without compression"), "{compressed}");
        let mut newer = SMALL.to_vec();
        newer[8] = 2;
        assert!(error(&newer).contains("libver"));
    }

    #[test]
    fn damaged_files_do_not_panic() {
        assert!(torment(SMALL, |bytes| parse("memory", bytes), |length| length < 2048) > 100);
    }
}
