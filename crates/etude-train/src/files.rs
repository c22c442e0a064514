//! Files that are either whole or not there: every write goes to a temporary file beside its target and is renamed.

use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Prefix of temporary files and folders; anything that starts with it is left over from a killed process.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// A name beside `path` that no other writer uses: process id and a counter.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{TEMPORARY}{}-{count}-{name}", std::process::id()))
}

/// Writes `bytes` to `path` so that a reader, a kill or a power cut sees the old content or the new, never a part.
///
/// The bytes go to a temporary file in the same folder, are forced to the disk, and replace `path` by a rename. On any
/// failure the old file stays as it was and the temporary one is removed.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a leftover is swept when the run is opened again.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io(path, "cannot write", error));
    }
    sync_folder(path.parent().unwrap_or(Path::new(".")));
    Ok(())
}

/// Writes a new file and forces it to the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Forces a folder's entries to the disk where the system allows that; a rename is atomic without it, only later.
pub(crate) fn sync_folder(path: &Path) {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    if let Ok(folder) = File::open(path) {
        let _ = folder.sync_all();
    }
}

/// Reads a whole file of at most `limit` bytes.
///
/// Memory follows what the file really holds: a device or a growing file is cut off at the limit with an error.
pub fn read_bytes(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|e| Error::io(path, "cannot read", e))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io(path, "cannot read", e))?;
    if bytes.len() as u64 > limit {
        let limit = crate::units::bytes(limit);
        return Err(Error::at(path, format!("larger than {limit}, the most this kind of file may hold"))
            .remedy("check that it is the right file"));
    }
    Ok(bytes)
}

/// Reads a UTF-8 text file of at most `limit` bytes.
pub fn read_text(path: impl AsRef<Path>, limit: u64) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read_bytes(path, limit)?).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        Error::at(path, format!("not UTF-8 text at byte {offset}")).remedy("check that it is the right file")
    })
}

/// Makes a folder and those above it; an existing folder is fine.
pub fn make_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    fs::create_dir_all(path).map_err(|e| Error::io(path, "cannot make the folder", e))
}

/// Removes the temporary files and folders a killed process left in `folder`; others' failures are no concern here.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// The checksum of TensorBoard's records and of the checkpoint manifest: CRC-32C (Castagnoli), bit-reversed 0x1EDC6F41.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [[u32; 256]; 8] = crc_tables();
    let mut crc = !0u32;
    let mut chunks = bytes.chunks_exact(8);
    // Eight bytes a turn: checkpoints are megabytes, and one table look-up a byte is a tenth of a disk's speed.
    for c in &mut chunks {
        let low = crc ^ u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
        crc = TABLE[7][(low & 255) as usize]
            ^ TABLE[6][(low >> 8 & 255) as usize]
            ^ TABLE[5][(low >> 16 & 255) as usize]
            ^ TABLE[4][(low >> 24) as usize]
            ^ TABLE[3][c[4] as usize]
            ^ TABLE[2][c[5] as usize]
            ^ TABLE[1][c[6] as usize]
            ^ TABLE[0][c[7] as usize];
    }
    for &byte in chunks.remainder() {
        crc = TABLE[0][((crc ^ byte as u32) & 255) as usize] ^ crc >> 8;
    }
    !crc
}

const fn crc_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            let before = tables[k - 1][i];
            tables[k][i] = tables[0][(before & 255) as usize] ^ before >> 8;
            i += 1;
        }
        k += 1;
    }
    tables
}

/// Standard base64 with padding (RFC 4648), for pictures inside `report.html`.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |w, i| w << 8 | *chunk.get(i).unwrap_or(&0) as u32);
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fresh folder for one test, removed when dropped.
    pub(crate) struct Scratch(pub PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            let path = temporary_beside(&std::env::temp_dir().join(format!("etude-train-{name}")));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn atomic_write_replaces_and_leaves_nothing_behind() {
        let scratch = Scratch::new("atomic");
        let path = scratch.0.join("a.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read_text(&path, 10).unwrap(), "two");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    }

    #[test]
    fn failed_write_keeps_the_old_file_and_names_the_path() {
        let scratch = Scratch::new("failed");
        let folder = scratch.0.join("target");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("inside"), b"kept").unwrap();
        // A rename onto a folder that is not empty must fail, whoever runs the test.
        let error = write_atomic(&folder, b"new").unwrap_err().to_string();
        assert!(error.contains("target: cannot write"), "{error}");
        assert!(!error.contains('\n'));
        assert_eq!(fs::read(folder.join("inside")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "the temporary file is removed");
        let error = write_atomic(scratch.0.join("absent/a"), b"").unwrap_err().to_string();
        assert!(error.contains("no such file or folder; check the path"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk_is_one_clear_line() {
        // /dev/full accepts an open and refuses every byte.
        let mut file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = Error::io("runs/x", "cannot write", file.write_all(b"x").unwrap_err());
        assert!(error.to_string().starts_with("runs/x: cannot write: the disk is full; free some space"), "{error}");
    }

    #[test]
    fn reading_is_limited_and_explains() {
        let scratch = Scratch::new("limit");
        let path = scratch.0.join("a");
        fs::write(&path, [b'x', 0xff]).unwrap();
        assert!(read_bytes(&path, 2).is_ok());
        assert!(read_bytes(&path, 1).unwrap_err().to_string().contains("larger than 1 B"));
        assert!(read_text(&path, 2).unwrap_err().to_string().contains("not UTF-8 text at byte 1"));
        assert!(read_text(scratch.0.join("b"), 2).unwrap_err().to_string().contains("no such file"));
    }

    #[test]
    fn checksums_known_values() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xff; 32]), 0x62A8_AB43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46DD_794E);
    }

    #[test]
    fn base64_known_values() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
