//! Finds out what a user's folder holds.

use crate::bundled::{FASHION, from_idx};
use crate::{Array, Dataset, Error, Result, Values, cifar, folder, idx, table, text};
use std::path::{Path, PathBuf};

/// What [`load_from`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The training part, or everything.
    pub train: Dataset,
    /// The test part, when the folder has one of its own.
    pub test: Option<Dataset>,
}

/// Reads what `path` holds, which is one of
/// - the IDX files of MNIST, Fashion-MNIST and their like, plain or gzipped: `train-images-idx3-ubyte` and so on;
/// - CIFAR-10 or CIFAR-100 in the binary version: `data_batch_1.bin` or `train.bin`;
/// - pictures in one folder a class, perhaps below `train` and `test` (or `val`, `valid`);
/// - or it is itself a table: `something.csv` or `something.csv.gz` with the class in the last column.
pub fn load_from(path: impl AsRef<Path>) -> Result<Loaded> {
    load_from_with(path, &folder::Options::default())
}

/// [`load_from`] with options for folders of pictures.
pub fn load_from_with(path: impl AsRef<Path>, options: &folder::Options) -> Result<Loaded> {
    let path = path.as_ref();
    if path.is_file() {
        let name = file_name(path);
        if name.ends_with(".csv") || name.ends_with(".csv.gz") {
            let table = table::read(path, &table::Options::default())?;
            return Ok(Loaded {
                train: table.into_dataset(name.trim_end_matches(".gz").trim_end_matches(".csv"))?,
                test: None,
            });
        }
        let problem = "is a file, and not a table";
        return Err(Error::new(path.display().to_string(), problem, "give a folder of data, or a .csv file"));
    }
    let (folders, pictures) = folder::contents(path)?;
    // The archives of CIFAR and of some copies of MNIST unpack into a folder of their own.
    for place in std::iter::once(path.to_path_buf()).chain(folders.iter().cloned()) {
        let found = match mnist(&place)? {
            Some(found) => Some(found),
            None => cifar_files(&place)?,
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let named =
        |names: &[&str]| folders.iter().find(|folder| names.contains(&file_name(folder).to_ascii_lowercase().as_str()));
    if let Some(train) = named(&["train", "training"]) {
        let train = folder::read(train, options)?;
        let test = match named(&["test", "testing", "val", "valid", "validation"]) {
            Some(test) => Some(folder::read(test, options)?),
            None => None,
        };
        if test.as_ref().is_some_and(|test| test.classes != train.classes) {
            let problem = "the training and test folders have different classes";
            return Err(Error::new(path.display().to_string(), problem, "give both the same sub-folders"));
        }
        return Ok(Loaded { train, test });
    }
    for folder in &folders {
        if !folder::contents(folder)?.1.is_empty() {
            return Ok(Loaded { train: folder::read(path, options)?, test: None });
        }
    }
    let problem = match pictures.is_empty() {
        true => "holds no data that is known here",
        false => "holds pictures, but not in one folder a class",
    };
    let advice = "it may hold MNIST's IDX files, CIFAR's binary files or pictures as class/name.png";
    Err(Error::new(path.display().to_string(), problem, advice))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "data".to_string(), |name| name.to_string_lossy().into_owned())
}

/// A file by its name, plain or gzipped.
fn find(place: &Path, name: &str) -> Option<PathBuf> {
    [name.to_string(), format!("{name}.gz")].into_iter().map(|name| place.join(name)).find(|path| path.is_file())
}

/// The pair of IDX files whose names begin with `prefix`; some copies write a dot where others write a hyphen.
fn idx_pair(place: &Path, prefix: &str) -> Result<Option<(Array, Array)>> {
    for mark in ["-", "."] {
        let images = find(place, &format!("{prefix}-images{mark}idx3-ubyte"));
        let labels = find(place, &format!("{prefix}-labels{mark}idx1-ubyte"));
        match (images, labels) {
            (Some(images), Some(labels)) => return Ok(Some((idx::read(images)?, idx::read(labels)?))),
            (None, None) => {}
            (images, _) => {
                let missing = if images.is_some() { "labels" } else { "images" };
                let problem = format!("has one IDX file of {prefix}, but not its {missing}");
                let advice = "put the images and the labels side by side";
                return Err(Error::new(place.display().to_string(), problem, advice));
            }
        }
    }
    Ok(None)
}

fn mnist(place: &Path) -> Result<Option<Loaded>> {
    let (train, test) = (idx_pair(place, "train")?, idx_pair(place, "t10k")?);
    let most = |pair: &Option<(Array, Array)>| match pair {
        Some((_, Array { values: Values::U8(labels), .. })) => labels.iter().copied().max().unwrap_or(0),
        _ => 0,
    };
    // The two sets have the same shapes and file names: the first ten labels tell them apart.
    let begins = |expected: [[u8; 10]; 2]| {
        [&train, &test].into_iter().zip(expected).any(|(pair, expected)| {
            matches!(pair, Some((_, Array { values: Values::U8(labels), .. })) if labels.starts_with(&expected))
        })
    };
    let digits: Vec<String> = (0..=most(&train).max(most(&test)).max(9)).map(|class| class.to_string()).collect();
    let (name, classes) = if begins([[5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]]) {
        ("mnist".to_string(), digits)
    } else if begins([[9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]]) {
        ("fashion-mnist".to_string(), FASHION.iter().map(|class| class.to_string()).collect())
    } else {
        (file_name(place), digits)
    };
    let set = |pair: Option<(Array, Array)>| -> Result<Option<Dataset>> {
        pair.map(|(images, labels)| from_idx(&name, images, &labels, classes.clone())).transpose()
    };
    Ok(match (set(train)?, set(test)?) {
        (Some(train), test) => Some(Loaded { train, test }),
        (None, Some(test)) => Some(Loaded { train: test, test: None }),
        (None, None) => None,
    })
}

fn cifar_files(place: &Path) -> Result<Option<Loaded>> {
    let batches: Vec<PathBuf> = (1..=5).filter_map(|batch| find(place, &format!("data_batch_{batch}.bin"))).collect();
    let (kind, train, test, names) = if !batches.is_empty() {
        if batches.len() < 5 {
            let problem = format!("has {} of the five files data_batch_1.bin to data_batch_5.bin", batches.len());
            return Err(Error::new(place.display().to_string(), problem, "unpack the whole archive"));
        }
        (cifar::Kind::Ten, batches, find(place, "test_batch.bin"), "batches.meta.txt")
    } else if let Some(train) = find(place, "train.bin") {
        (cifar::Kind::Hundred, vec![train], find(place, "test.bin"), "fine_label_names.txt")
    } else {
        return Ok(None);
    };
    let (name, count) = match kind {
        cifar::Kind::Ten => ("cifar-10", 10),
        cifar::Kind::Hundred => ("cifar-100", 100),
    };
    let mut classes: Vec<String> = (0..count).map(|class| class.to_string()).collect();
    if let Some(path) = find(place, names) {
        let lines: Vec<String> =
            text::read(&path)?.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect();
        if lines.len() != count {
            let problem = format!("names {} classes instead of {count}", lines.len());
            return Err(Error::new(path.display().to_string(), problem, "fetch it again, or remove it"));
        }
        classes = lines;
    }
    let set = |paths: &[PathBuf]| -> Result<Dataset> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for path in paths {
            let records = cifar::read(path, kind)?;
            labels.extend(records.labels);
            if let Values::U8(bytes) = records.images.values {
                pixels.extend_from_slice(&bytes);
            }
        }
        Dataset::new(name, Array::new([labels.len(), 3, 32, 32], Values::U8(pixels))?, labels, classes.clone())
    };
    let test = test.map(|path| set(&[path])).transpose()?;
    Ok(Some(Loaded { train: set(&train)?, test }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::tests::picture;
    use crate::input::tests::{TestFolder, gzip};

    fn write(folder: &TestFolder, name: &str, bytes: &[u8]) {
        let path = folder.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn images(count: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 2];
        bytes.extend((0..count).flat_map(|image| [image; 4]));
        bytes
    }

    fn labels(labels: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 1, 0, 0, 0, labels.len() as u8];
        bytes.extend_from_slice(labels);
        bytes
    }

    #[test]
    fn mnist_and_fashion_are_told_apart() {
        let folder = TestFolder::new("detect-mnist");
        write(&folder, "t10k-images-idx3-ubyte.gz", &gzip(&images(10)));
        write(&folder, "t10k-labels-idx1-ubyte.gz", &gzip(&labels(&[7, 2, 1, 0, 4, 1, 4, 9, 5, 9])));
        let only_test = load_from(&folder.0).unwrap();
        assert_eq!((only_test.train.name.as_str(), only_test.test), ("mnist", None));
        write(&folder, "train-images.idx3-ubyte", &images(12));
        write(&folder, "train-labels.idx1-ubyte", &labels(&[5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5]));
        let both = load_from(&folder.0).unwrap();
        assert_eq!((both.train.len(), both.test.unwrap().len()), (12, 10));
        assert_eq!(both.train.input_shape(), [1, 2, 2]);

        let below = TestFolder::new("detect-fashion");
        write(&below, "raw/train-images-idx3-ubyte", &images(11));
        write(&below, "raw/train-labels-idx1-ubyte", &labels(&[9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0]));
        let fashion = load_from(&below.0).unwrap().train;
        assert_eq!((fashion.name.as_str(), fashion.classes[9].as_str()), ("fashion-mnist", "Ankle boot"));
        std::fs::remove_file(below.0.join("raw/train-labels-idx1-ubyte")).unwrap();
        assert!(load_from(&below.0).unwrap_err().to_string().contains("but not its labels"));

        let letters = TestFolder::new("detect-letters");
        write(&letters, "train-images-idx3-ubyte", &images(3));
        write(&letters, "train-labels-idx1-ubyte", &labels(&[1, 25, 3]));
        assert_eq!(load_from(&letters.0).unwrap().train.classes.len(), 26);
    }

    #[test]
    fn cifar_is_found_below_too() {
        let folder = TestFolder::new("detect-cifar");
        let record = |label: u8| [vec![label], vec![label; 3072]].concat();
        for batch in 1..=4 {
            write(&folder, &format!("cifar-10-batches-bin/data_batch_{batch}.bin"), &record(batch));
        }
        assert!(load_from(&folder.0).unwrap_err().to_string().contains("has 4 of the five"));
        write(&folder, "cifar-10-batches-bin/data_batch_5.bin", &record(5));
        write(&folder, "cifar-10-batches-bin/test_batch.bin", &record(9));
        let found = load_from(&folder.0).unwrap();
        assert_eq!((found.train.labels.to_vec(), found.test.unwrap().labels.to_vec()), (vec![1, 2, 3, 4, 5], vec![9]));
        assert_eq!(found.train.classes[3], "3");
        write(&folder, "cifar-10-batches-bin/batches.meta.txt", b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
        assert_eq!(load_from(&folder.0).unwrap().train.classes[3], "d");
        let hundred = TestFolder::new("detect-cifar-100");
        write(&hundred, "train.bin", &[vec![3, 77], vec![0; 3072]].concat());
        let found = load_from(&hundred.0).unwrap().train;
        assert_eq!((found.name.as_str(), found.labels[0], found.classes.len()), ("cifar-100", 77, 100));
    }

    #[test]
    fn pictures_tables_and_nothing() {
        let folder = TestFolder::new("detect-pictures");
        assert!(load_from(&folder.0).unwrap_err().to_string().contains("no data that is known"));
        write(&folder, "1.png", &picture(2, 2, image::ImageFormat::Png));
        assert!(load_from(&folder.0).unwrap_err().to_string().contains("not in one folder a class"));
        write(&folder, "cat/1.png", &picture(2, 2, image::ImageFormat::Png));
        write(&folder, "dog/1.png", &picture(2, 2, image::ImageFormat::Png));
        let found = load_from(&folder.0).unwrap();
        assert_eq!((found.train.classes.len(), found.test), (2, None));

        let parts = TestFolder::new("detect-parts");
        for name in ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/2.png"] {
            write(&parts, name, &picture(2, 3, image::ImageFormat::Png));
        }
        let found = load_from(&parts.0).unwrap();
        assert_eq!((found.train.len(), found.test.unwrap().len()), (2, 2));
        std::fs::remove_file(parts.0.join("val/dog/2.png")).unwrap();
        assert!(load_from(&parts.0).unwrap_err().to_string().contains("different classes"));
        let small = folder::Options { size: Some((1, 1)), grey: true };
        std::fs::remove_dir_all(parts.0.join("val")).unwrap();
        assert_eq!(load_from_with(&parts.0, &small).unwrap().train.inputs.shape, [2, 1, 1, 1]);

        write(&parts, "points.csv", b"x,y,side\n1,2,left\n3,4,right\n");
        let table = load_from(parts.0.join("points.csv")).unwrap().train;
        assert_eq!((table.name.as_str(), table.classes.len()), ("points", 2));
        assert!(load_from(parts.0.join("train/cat/1.png")).unwrap_err().to_string().contains("not a table"));
        assert!(load_from(parts.0.join("missing")).unwrap_err().to_string().contains("missing"));
    }
}
