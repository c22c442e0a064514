//! Opening files, plain or gzipped, and reading no more than is there.

use crate::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;

/// The most bytes a binary reader takes out of one file, unpacked: what keeps a small gzip file from filling the memory.
pub(crate) const MOST_BYTES: u64 = 16 << 30;
/// The same for text, tables and CIFAR, whose memory is a multiple of the file.
pub(crate) const MOST_TEXT: u64 = 2 << 30;

/// An open file or a piece of memory, unpacked on the way when it is gzip, with the name its errors carry.
pub(crate) struct Input<'a> {
    pub(crate) place: String,
    reader: Box<dyn Read + 'a>,
}

impl<'a> Input<'a> {
    /// Opens a file; gzip is recognised by its first two bytes, whatever the name.
    pub(crate) fn open(path: &Path) -> Result<Input<'a>> {
        let file = File::open(path).map_err(|error| Error::io(path, &error))?;
        let is_folder = file.metadata().map_err(|error| Error::io(path, &error))?.is_dir();
        if is_folder {
            return Err(Error::new(path.display().to_string(), "is a folder, not a file", "give the file's path"));
        }
        Input::new(path.display().to_string(), Box::new(BufReader::new(file)))
    }

    /// Reads from memory.
    pub(crate) fn memory(place: &str, bytes: &'a [u8]) -> Result<Input<'a>> {
        Input::new(place.to_string(), Box::new(Cursor::new(bytes)))
    }

    fn new(place: String, mut reader: Box<dyn Read + 'a>) -> Result<Input<'a>> {
        let mut start = Vec::new();
        if let Err(error) = reader.by_ref().take(2).read_to_end(&mut start) {
            return Err(Error::new(place, error.to_string(), ""));
        }
        let gzip = start == [0x1f, 0x8b];
        let whole = Cursor::new(start).chain(reader);
        let reader: Box<dyn Read + 'a> =
            if gzip { Box::new(flate2::read::MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        Ok(Input { place, reader })
    }

    /// An error at this input.
    pub(crate) fn error(&self, problem: impl Into<String>, advice: impl Into<String>) -> Error {
        Error::new(self.place.clone(), problem, advice)
    }

    /// Exactly `count` bytes, or an error that says what is missing. Memory grows with what is really read.
    pub(crate) fn exactly(&mut self, count: usize, what: &str) -> Result<Vec<u8>> {
        if count as u64 > MOST_BYTES {
            return Err(self.error(format!("claims {count} bytes for the {what}"), too_large(MOST_BYTES)));
        }
        let mut bytes = Vec::with_capacity(count.min(1 << 20));
        if let Err(error) = self.reader.by_ref().take(count as u64).read_to_end(&mut bytes) {
            return Err(self.error(format!("cannot read the {what}: {error}"), DAMAGED));
        }
        if bytes.len() < count {
            let problem = format!("ends within the {what}: {count} bytes expected, {} there", bytes.len());
            return Err(self.error(problem, DAMAGED));
        }
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Everything that is left; an error when that is more than `most` bytes.
    pub(crate) fn rest(&mut self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Err(error) = self.reader.by_ref().take(most + 1).read_to_end(&mut bytes) {
            return Err(self.error(format!("cannot be read: {error}"), DAMAGED));
        }
        if bytes.len() as u64 > most {
            return Err(self.error("is too large once unpacked", too_large(most)));
        }
        Ok(bytes)
    }

    /// An error unless everything has been read; for gzip this also checks the sum at the end.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let mut more = [0];
        match self.reader.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.error("holds more than its header says", "it may be another format, or damaged")),
            Err(error) => Err(self.error(format!("cannot be read: {error}"), DAMAGED)),
        }
    }
}

/// Writes a file under another name beside `path` and renames it, so that `path` is never half-written.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        Error::io(path, &error)
    })
}

fn too_large(most: u64) -> String {
    format!("the most read into memory is {} MiB: cut it into several files", most >> 20)
}

/// The advice for a file that ends early or fails its checksum.
pub(crate) const DAMAGED: &str = "the file is cut short or damaged: fetch it again";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    /// A folder of its own for one test, removed when dropped.
    pub(crate) struct TestFolder(pub(crate) std::path::PathBuf);

    impl TestFolder {
        pub(crate) fn new(name: &str) -> TestFolder {
            let path = std::env::temp_dir().join(format!("etude-data-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            TestFolder(path)
        }
    }

    impl Drop for TestFolder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Cuts a valid file at every byte and flips every byte; `read` may fail or succeed but not panic, and must fail
    /// on a cut where `cuts_fail` says so. Returns how many of the flipped files were refused.
    pub(crate) fn torment<T>(
        valid: &[u8],
        read: impl Fn(&[u8]) -> Result<T>,
        cuts_fail: impl Fn(usize) -> bool,
    ) -> usize {
        assert!(read(valid).is_ok(), "the untouched file was refused: {}", read(valid).err().unwrap());
        for length in 0..valid.len() {
            match read(&valid[..length]) {
                Ok(_) => assert!(!cuts_fail(length), "a file cut at {length} of {} was accepted", valid.len()),
                Err(error) => assert!(!error.to_string().contains('\n') && error.to_string().contains(": ")),
            }
        }
        let mut refused = 0;
        for at in 0..valid.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = valid.to_vec();
                bytes[at] ^= flip;
                refused += usize::from(read(&bytes).is_err());
            }
        }
        refused
    }

    #[test]
    fn plain_and_gzip_read_alike() {
        let text = b"forty-two bytes of something or other here";
        for bytes in [text.to_vec(), gzip(text)] {
            let mut input = Input::memory("memory", &bytes).unwrap();
            assert_eq!(input.exactly(9, "number").unwrap(), b"forty-two");
            assert_eq!(input.rest(99).unwrap(), &text[9..]);
            input.finish().unwrap();
        }
        assert_eq!(Input::memory("memory", b"").unwrap().rest(0).unwrap(), b"");
        assert_eq!(Input::memory("memory", b"x").unwrap().rest(1).unwrap(), b"x");
    }

    #[test]
    fn a_cut_or_altered_gzip_is_an_error() {
        let packed = gzip(b"something long enough to be packed, packed, packed, packed");
        let read = |bytes: &[u8]| Input::memory("memory", bytes)?.rest(MOST_TEXT);
        torment(&packed, read, |length| length > 1);
        let mut altered = packed.clone();
        let sum = altered.len() - 6;
        altered[sum] ^= 1;
        let error = read(&altered).unwrap_err().to_string();
        assert!(error.starts_with("memory: cannot be read"), "{error}");
    }

    #[test]
    fn a_claim_is_not_allocated() {
        let error = |count| Input::memory("memory", b"abc").unwrap().exactly(count, "pixels").unwrap_err().to_string();
        assert!(error(MOST_BYTES as usize).contains("ends within the pixels"));
        assert!(error(usize::MAX).contains("claims 18446744073709551615 bytes"));
    }

    #[test]
    fn a_small_file_that_unpacks_to_much_is_stopped() {
        let bomb = gzip(&vec![0; 1 << 20]);
        let read = |most| Input::memory("memory", &bomb).unwrap().rest(most).map(|bytes| bytes.len());
        assert_eq!(read(1 << 20), Ok(1 << 20));
        assert!(read((1 << 20) - 1).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        let folder = TestFolder::new("input");
        let missing = folder.0.join("nothing.gz");
        assert!(Input::open(&missing).err().unwrap().to_string().contains("nothing.gz"));
        assert!(Input::open(&folder.0).err().unwrap().to_string().contains("folder"));
    }
}
