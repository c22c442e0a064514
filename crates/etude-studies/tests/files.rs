//! Files: whoever reads an étude with `etude show NAME --source` is shown all that belongs to it.

use etude_studies::studies;
use std::path::{Path, PathBuf};

/// Every file below `folder`.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn every_file_of_a_chapter_belongs_to_an_etude() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut shown = Vec::new();
    for study in studies() {
        let [chapter, file] = (study.place)();
        for (path, text) in study.parts.iter().map(|part| (part.path, part.text)).chain([(file, study.text)]) {
            let path = root.join(chapter).join(path).with_extension("rs");
            assert_eq!(std::fs::read_to_string(&path).expect("a file"), text, "{}", path.display());
            assert!(text.starts_with("//! "), "{} does not say what it is about", path.display());
            shown.push(path);
        }
    }
    for path in below(&root) {
        let text = path.extension().is_some_and(|extension| extension == "rs");
        let chapter = text && path.parent() != Some(root.as_path()) && !path.ends_with("mod.rs");
        assert!(!chapter || shown.contains(&path), "no étude has {} among its parts", path.display());
    }
}
