//! TensorBoard event files: the framing of TFRecord files and the few protobuf fields a scalar needs.
//!
//! A record is `length (u64 LE), masked crc32c of the length, data, masked crc32c of the data`. The data is an `Event`
//! message: `wall_time = 1 (double)`, `step = 2 (int64)`, `file_version = 3 (string)`, `summary = 5 (message)`; a
//! `Summary` holds `value = 1 (message)`, each with `tag = 1 (string)` and `simple_value = 2 (float)`.

use crate::files::crc32c;

/// TensorFlow's masking of a checksum, so that a checksum of data that holds checksums stays useful.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Frames one record.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(data);
    out.extend(masked(crc32c(data)).to_le_bytes());
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of the wire type "length and bytes".
fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn event_head(wall_time: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time.to_le_bytes());
    event
}

/// The record every event file starts with. `wall_time` is seconds since 1970.
pub(crate) fn header(wall_time: f64) -> Vec<u8> {
    let mut event = event_head(wall_time);
    bytes_field(&mut event, 3, b"brain.Event:2");
    record(&event)
}

/// One record with the scalars of one step. `wall_time` is seconds since 1970.
pub(crate) fn scalars<'a>(wall_time: f64, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut one = Vec::new();
        bytes_field(&mut one, 1, tag.as_bytes());
        one.push(2 << 3 | 5);
        one.extend((value as f32).to_le_bytes());
        bytes_field(&mut summary, 1, &one);
    }
    let mut event = event_head(wall_time);
    event.push(2 << 3);
    varint(&mut event, step);
    bytes_field(&mut event, 5, &summary);
    record(&event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_the_bytes_tensorflow_writes() {
        // wall_time 0; lengths and fields by the format, checksums from an independent implementation.
        let mut expected = vec![24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22];
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 13]);
        expected.extend(b"brain.Event:2");
        let made = header(0.0);
        assert_eq!(made[..made.len() - 4], expected);
        assert_eq!(made[36..], [0xee, 0xdf, 0x28, 0xa3]);
    }

    #[test]
    fn scalar_event_known_bytes() {
        let made = scalars(1.0, 300, [("loss", 0.5)]);
        let summary = [0x0a, 11, 0x0a, 4, b'l', b'o', b's', b's', 0x15, 0, 0, 0, 0x3f];
        let mut data = vec![0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02, 0x2a, 13];
        data.extend(summary);
        assert_eq!(made[..8], (data.len() as u64).to_le_bytes());
        assert_eq!(made[12..12 + data.len()], data);
        assert_eq!(made.len(), data.len() + 16);
    }

    #[test]
    fn mask_known_value() {
        assert_eq!(masked(0), 0xA282_EAD8);
        assert_eq!(masked(1), 0xA284_EAD8);
    }
}
