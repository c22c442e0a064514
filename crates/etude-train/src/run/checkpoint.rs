//! Checkpoints: folders of files that appear whole or not at all.
//!
//! `checkpoints/step-00000120/` holds the caller's files, `state.json` and `manifest.json` (size and checksum of each).
//! The folder is written under a temporary name, forced to the disk and renamed, so whatever has the final name is
//! complete. `checkpoints/best/` has the same content; the newest few steps are kept besides it.

use super::state::State;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const BEST: &str = "best";
/// The former `best` while its successor takes its place.
const BEST_BEFORE: &str = "best-before";
/// The most a single file of a checkpoint may hold when read back.
const LIMIT: u64 = 1 << 40;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Entry {
    bytes: u64,
    crc32c: u32,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    files: BTreeMap<String, Entry>,
}

/// A checkpoint on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// Opens the checkpoint in the folder `path`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let checkpoint = Self { path: path.into() };
        checkpoint.manifest().map(|_| checkpoint)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of its files, `state.json` among them, in order.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.manifest()?.files.into_keys().collect())
    }

    /// The bytes of one file, checked against the size and checksum noted when it was written.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let manifest = self.manifest()?;
        let Some(entry) = manifest.files.get(name) else {
            let names: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
            return Err(Error::at(&self.path, format!("holds no `{name}`, only {}", names.join(", ")))
                .remedy("resume from another checkpoint"));
        };
        let path = self.path.join(name);
        let bytes = files::read_bytes(&path, entry.bytes.min(LIMIT))?;
        if (Entry { bytes: bytes.len() as u64, crc32c: files::crc32c(&bytes) }) != *entry {
            return Err(Error::at(path, "damaged: it is not what was saved").remedy("resume from another checkpoint"));
        }
        Ok(bytes)
    }

    /// The run's state at this checkpoint.
    pub fn state(&self) -> Result<State> {
        let path = self.path.join(STATE);
        let text = String::from_utf8(self.read(STATE)?)
            .map_err(|_| Error::at(&path, "not UTF-8 text").remedy("resume from another checkpoint"))?;
        State::from_json(&text, &path)
    }

    fn manifest(&self) -> Result<Manifest> {
        let path = self.path.join(MANIFEST);
        let text = files::read_text(&path, 1 << 20)?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| {
            Error::at(&path, format!("not a checkpoint's list of files: {e}")).remedy("resume from another checkpoint")
        })?;
        if manifest.version != 1 {
            return Err(Error::at(&path, format!("checkpoint version {}, this program reads 1", manifest.version))
                .remedy("resume with the étude that wrote it, or a newer one"));
        }
        // A list from elsewhere must not lead a reader out of the folder.
        match manifest.files.keys().find(|name| !plain_name(name)) {
            Some(name) => Err(Error::at(path, format!("`{name}` is not a plain file name"))),
            None => Ok(manifest),
        }
    }
}

/// One path component, not hidden, usable on every system.
pub(super) fn plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(allowed)
}

/// The `checkpoints/` folder of a run.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Finishes or undoes what a killed process left; only for the process that holds the run.
    pub(crate) fn recover(&self) -> Result<()> {
        let (best, before) = (self.folder.join(BEST), self.folder.join(BEST_BEFORE));
        if before.exists() {
            if best.exists() {
                remove_folder(&before)?;
            } else {
                rename(&before, &best)?;
            }
        }
        files::sweep(&self.folder);
        Ok(())
    }

    /// Complete step folders with their steps, oldest first.
    pub(crate) fn steps(&self) -> Vec<(u64, Checkpoint)> {
        let mut found: Vec<(u64, Checkpoint)> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let step = name.to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some((step, Checkpoint { path: entry.path() }))
            })
            .collect();
        found.sort_by_key(|(step, _)| *step);
        found
    }

    pub(crate) fn latest(&self) -> Result<Option<Checkpoint>> {
        self.steps().pop().map(|(_, checkpoint)| Checkpoint::open(checkpoint.path)).transpose()
    }

    pub(crate) fn best(&self) -> Result<Option<Checkpoint>> {
        // A reader may look in the moment between the two renames of a replacement.
        let found = [BEST, BEST_BEFORE].map(|name| self.folder.join(name)).into_iter().find(|path| path.exists());
        found.map(Checkpoint::open).transpose()
    }

    /// Writes the folder for a step, then removes all but the newest `keep` steps.
    pub(crate) fn save(&self, state: &State, contents: &[(&str, &[u8])], keep: usize) -> Result<Checkpoint> {
        let target = self.folder.join(format!("step-{:08}", state.step));
        let temporary = self.write(&target, state, contents)?;
        if target.exists() {
            // The same step again, as after a resume that saved at once: the content is the same by determinism.
            remove_folder(&target)?;
        }
        rename(&temporary, &target)?;
        let steps = self.steps();
        for (_, old) in &steps[..steps.len().saturating_sub(keep.max(1))] {
            remove_folder(&old.path)?;
        }
        Ok(Checkpoint { path: target })
    }

    /// Replaces `best`; at every moment one of `best` and `best-before` is whole.
    pub(crate) fn save_best(&self, state: &State, contents: &[(&str, &[u8])]) -> Result<Checkpoint> {
        let (best, before) = (self.folder.join(BEST), self.folder.join(BEST_BEFORE));
        let temporary = self.write(&best, state, contents)?;
        if best.exists() {
            if before.exists() {
                remove_folder(&before)?;
            }
            rename(&best, &before)?;
        }
        rename(&temporary, &best)?;
        if before.exists() {
            remove_folder(&before)?;
        }
        Ok(Checkpoint { path: best })
    }

    /// Writes all files into a temporary folder beside `target` and forces them to the disk.
    fn write(&self, target: &Path, state: &State, contents: &[(&str, &[u8])]) -> Result<PathBuf> {
        files::make_folder(&self.folder)?;
        let temporary = files::temporary_beside(target);
        let written = self.write_into(&temporary, target, state, contents);
        if written.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        written.map(|()| temporary)
    }

    fn write_into(&self, folder: &Path, target: &Path, state: &State, contents: &[(&str, &[u8])]) -> Result<()> {
        let fail = |name: &str| {
            let path = target.join(name);
            move |e| Error::io(path, "cannot write the checkpoint", e)
        };
        fs::create_dir(folder).map_err(fail(""))?;
        let state = state.to_json();
        let all = contents.iter().copied().chain([(STATE, state.as_bytes())]);
        let mut manifest = Manifest { version: 1, files: BTreeMap::new() };
        for (name, bytes) in all {
            assert!(
                plain_name(name) && name != MANIFEST,
                "save_checkpoint: `{name}` cannot name a file of a checkpoint"
            );
            files::write_synced(&folder.join(name), bytes).map_err(fail(name))?;
            let entry = Entry { bytes: bytes.len() as u64, crc32c: files::crc32c(bytes) };
            let twice = manifest.files.insert(name.to_string(), entry).is_some();
            assert!(!twice, "save_checkpoint: two files are named `{name}`");
        }
        let manifest = serde_json::to_string_pretty(&manifest).expect("strings and numbers are always JSON");
        files::write_synced(&folder.join(MANIFEST), manifest.as_bytes()).map_err(fail(MANIFEST))?;
        files::sync_folder(folder);
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| {
        if from.file_name().is_some_and(|name| name.to_string_lossy().starts_with(files::TEMPORARY)) {
            let _ = fs::remove_dir_all(from);
        }
        Error::io(to, "cannot put the checkpoint in place", e)
    })?;
    files::sync_folder(to.parent().unwrap_or(Path::new(".")));
    Ok(())
}

/// Takes a folder out of sight in one move before its files go, so that nobody meets half of it.
fn remove_folder(path: &Path) -> Result<()> {
    let temporary = files::temporary_beside(path);
    fs::rename(path, &temporary)
        .and_then(|()| fs::remove_dir_all(&temporary))
        .map_err(|e| Error::io(path, "cannot remove the old checkpoint", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    fn at(step: u64) -> State {
        State { step, ..State::new(1) }
    }

    #[test]
    fn saves_reads_and_keeps_the_newest() {
        let scratch = Scratch::new("keep");
        let all = Checkpoints::new(scratch.0.join("checkpoints"));
        assert!(all.latest().unwrap().is_none() && all.best().unwrap().is_none());
        for step in [5, 10, 15, 100_000_000, 20] {
            all.save(&at(step), &[("model.safetensors", &step.to_le_bytes()), ("empty", b"")], 2).unwrap();
        }
        let latest = all.latest().unwrap().unwrap();
        assert_eq!(latest.state().unwrap(), at(100_000_000));
        assert_eq!(latest.read("model.safetensors").unwrap(), 100_000_000u64.to_le_bytes());
        assert_eq!(latest.read("empty").unwrap(), b"");
        assert_eq!(latest.names().unwrap(), ["empty", "model.safetensors", "state.json"]);
        assert_eq!(all.steps().iter().map(|(step, _)| *step).collect::<Vec<_>>(), [20, 100_000_000]);
        all.save(&at(20), &[("other", b"2")], 2).unwrap();
        assert_eq!(all.steps()[0].1.read("other").unwrap(), b"2");
        assert_eq!(fs::read_dir(&all.folder).unwrap().count(), 2, "no temporary folder is left");
    }

    #[test]
    fn best_is_replaced_and_recovered() {
        let scratch = Scratch::new("best");
        let all = Checkpoints::new(scratch.0.clone());
        all.save_best(&at(1), &[("m", b"1")]).unwrap();
        all.save_best(&at(2), &[("m", b"2")]).unwrap();
        assert_eq!(all.best().unwrap().unwrap().read("m").unwrap(), b"2");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
        // Killed between the two renames.
        fs::rename(scratch.0.join(BEST), scratch.0.join(BEST_BEFORE)).unwrap();
        fs::create_dir(scratch.0.join(".tmp-1-0-best")).unwrap();
        assert_eq!(all.best().unwrap().unwrap().read("m").unwrap(), b"2");
        all.recover().unwrap();
        assert!(scratch.0.join(BEST).exists());
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
        // Killed after them.
        fs::create_dir(scratch.0.join(BEST_BEFORE)).unwrap();
        all.recover().unwrap();
        assert_eq!(all.best().unwrap().unwrap().read("m").unwrap(), b"2");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    }

    #[test]
    fn unfinished_folders_are_not_checkpoints() {
        let scratch = Scratch::new("unfinished");
        let all = Checkpoints::new(scratch.0.clone());
        all.save(&at(1), &[], 3).unwrap();
        let unfinished = all.write(&scratch.0.join("step-00000002"), &at(2), &[("m", b"2")]).unwrap();
        assert_eq!(all.latest().unwrap().unwrap().state().unwrap().step, 1);
        all.recover().unwrap();
        assert!(!unfinished.exists());
    }

    #[test]
    fn a_failed_save_loses_nothing() {
        let scratch = Scratch::new("failed-save");
        let all = Checkpoints::new(scratch.0.join("c"));
        all.save(&at(1), &[("m", b"1")], 1).unwrap();
        // A name too long for a file system fails as a full disk does: after some files are written.
        let long = "x".repeat(200);
        let longer = format!("{long}{long}");
        let result = std::panic::catch_unwind(|| all.save(&at(2), &[("m", b"2"), (&longer, b"")], 1));
        assert!(result.is_err(), "a name that cannot be is a programming mistake");
        all.recover().unwrap();
        assert_eq!(all.latest().unwrap().unwrap().read("m").unwrap(), b"1");
        // The folder itself is gone and a file stands in its place.
        let blocked = Checkpoints::new(scratch.0.join("file/checkpoints"));
        fs::write(scratch.0.join("file"), b"").unwrap();
        let error = blocked.save(&at(2), &[], 1).unwrap_err().to_string();
        assert!(error.contains("cannot make the folder") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn damage_is_noticed() {
        let scratch = Scratch::new("damage");
        let all = Checkpoints::new(scratch.0.clone());
        let saved = all.save(&at(1), &[("m", b"12345")], 3).unwrap();
        for content in [&b"12346"[..], b"1234", b"123456"] {
            fs::write(saved.path().join("m"), content).unwrap();
            let error = saved.read("m").unwrap_err().to_string();
            assert!(error.contains("m: ") && error.contains("larger") | error.contains("damaged"), "{error}");
        }
        assert!(saved.read("n").unwrap_err().to_string().contains("holds no `n`, only m, state.json"));
        let manifest = saved.path().join(MANIFEST);
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("\"m\"", "\"../m\"")).unwrap();
        assert!(saved.read("../m").unwrap_err().to_string().contains("not a plain file name"));
        fs::write(&manifest, &text[..text.len() / 2]).unwrap();
        assert!(all.latest().unwrap_err().to_string().contains("resume from another checkpoint"));
    }
}
