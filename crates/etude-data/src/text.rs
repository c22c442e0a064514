//! Plain text.

use crate::input::{Input, MOST_TEXT};
use crate::{Error, Result};
use std::path::Path;

/// Reads a text file, plain or gzipped, in UTF-8. A byte order mark is dropped and Windows line ends become `\n`.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let mut input = Input::open(path.as_ref())?;
    let bytes = input.rest(MOST_TEXT)?;
    decode(&input.place, bytes)
}

/// Decodes UTF-8 by the rules of [`read`]; `place` names it in errors.
pub fn decode(place: &str, bytes: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        Error::new(place, format!("not UTF-8 at byte {at}, line {line}"), "convert it to UTF-8 (iconv does)")
    })?;
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_string(),
        None => text,
    };
    Ok(if text.contains("\r\n") { text.replace("\r\n", "\n") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::{TestFolder, gzip, torment};

    #[test]
    fn text_is_read_and_cleaned() {
        let folder = TestFolder::new("text");
        let path = folder.0.join("a.txt");
        for bytes in ["\u{feff}é\r\nb\n".as_bytes().to_vec(), gzip("é\nb\n".as_bytes())] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap(), "é\nb\n");
        }
        std::fs::write(&path, b"good\nbad \xff\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("a.txt: not UTF-8 at byte 9, line 2"), "{error}");
        torment("naïve café".as_bytes(), |bytes| decode("memory", bytes.to_vec()), |length| length == 3);
    }
}
