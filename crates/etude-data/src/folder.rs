//! Folders of pictures, one folder a class: `root/class/*.png` and `*.jpg`.

use crate::{Array, Dataset, Error, Result, Values};
use image::{DynamicImage, ImageDecoder};
use std::path::{Path, PathBuf};

/// What to make of the pictures found. `Options::default()` keeps sizes, which must then all agree, and makes colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Height and width to resize every picture to, without keeping its proportions.
    pub size: Option<(usize, usize)>,
    /// One grey channel instead of red, green and blue.
    pub grey: bool,
}

/// Pictures larger than this on a side are refused before they are unpacked.
const LARGEST_SIDE: u32 = 1 << 15;

/// Reads one PNG or JPEG picture as bytes `[channels, height, width]`; transparency is dropped.
pub fn read_picture(path: impl AsRef<Path>, options: &Options) -> Result<Array> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
    parse_picture(&path.display().to_string(), &bytes, options)
}

/// Reads the same from memory; `place` names it in errors.
pub fn parse_picture(place: &str, bytes: &[u8], options: &Options) -> Result<Array> {
    let mut picture = decode(place, bytes)?;
    if let Some((height, width)) = options.size {
        if height == 0 || width == 0 || height > LARGEST_SIDE as usize || width > LARGEST_SIDE as usize {
            let problem = format!("cannot be resized to {height} × {width}");
            return Err(Error::new(place, problem, format!("give a size of 1 to {LARGEST_SIDE}")));
        }
        if (picture.height() as usize, picture.width() as usize) != (height, width) {
            picture = picture.resize_exact(width as u32, height as u32, image::imageops::FilterType::Triangle);
        }
    }
    if options.grey {
        let size = [1, picture.height() as usize, picture.width() as usize];
        return Array::new(size, Values::U8(picture.into_luma8().into_raw()));
    }
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    Array::new([3, height, width], Values::U8(planes(&picture.into_rgb8().into_raw(), 3)))
}

/// Reads a picture from memory with its transparency: bytes `[4, height, width]`.
pub(crate) fn parse_transparent(place: &str, bytes: &[u8]) -> Result<Array> {
    let picture = decode(place, bytes)?;
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    Array::new([4, height, width], Values::U8(planes(&picture.into_rgba8().into_raw(), 4)))
}

/// Unpacks a picture, unless it claims more than it can hold.
fn decode(place: &str, bytes: &[u8]) -> Result<DynamicImage> {
    let error = |problem: String| Error::new(place, problem, "give a whole PNG or JPEG picture");
    let mut reader = image::ImageReader::new(std::io::Cursor::new(bytes));
    let format = image::guess_format(bytes).map_err(|_| error("is neither PNG nor JPEG".to_string()))?;
    reader.set_format(format);
    let unreadable = |problem: image::ImageError| error(format!("cannot be read: {problem}"));
    let decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    // Neither format packs more than about a thousand bytes into one, so a larger claim is false.
    if width.max(height) > LARGEST_SIDE || decoder.total_bytes() > (bytes.len() as u64).saturating_mul(2048) {
        return Err(error(format!("claims {width} × {height} pixels in {} bytes", bytes.len())));
    }
    DynamicImage::from_decoder(decoder).map_err(unreadable)
}

/// Pixels of `channels` bytes as one plane a channel.
fn planes(pixels: &[u8], channels: usize) -> Vec<u8> {
    let plane = |channel: usize| pixels.iter().skip(channel).step_by(channels).copied();
    (0..channels).flat_map(plane).collect()
}

fn is_picture(ending: &std::ffi::OsStr) -> bool {
    ["png", "jpg", "jpeg"].contains(&ending.to_string_lossy().to_ascii_lowercase().as_str())
}

/// The sorted folders and the sorted pictures directly inside `path`; hidden ones are left out.
pub(crate) fn contents(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut folders, mut pictures) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(path).map_err(|error| Error::io(path, &error))? {
        let path = entry.map_err(|error| Error::io(path, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if path.extension().is_some_and(is_picture) {
            pictures.push(path);
        }
    }
    folders.sort();
    pictures.sort();
    Ok((folders, pictures))
}

/// Reads `root/class/*.png` and `*.jpg` into a set with `U8` inputs `[count, channels, height, width]`.
///
/// Classes are the folders' names, sorted; folders without pictures are no classes. Within a class the pictures are
/// in the order of their names.
pub fn read(root: impl AsRef<Path>, options: &Options) -> Result<Dataset> {
    let root = root.as_ref();
    let error = |problem: String, advice: &str| Error::new(root.display().to_string(), problem, advice);
    let mut classes = Vec::new();
    let mut labels = Vec::new();
    let mut values = Vec::new();
    let mut shape: Option<(Vec<usize>, PathBuf)> = None;
    for folder in contents(root)?.0 {
        let (_, pictures) = contents(&folder)?;
        if pictures.is_empty() {
            continue;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for path in pictures {
            let picture = read_picture(&path, options)?;
            match &shape {
                Some((shape, first)) if *shape != picture.shape => {
                    let sizes = (&picture.shape[1..], &shape[1..]);
                    let problem = format!("is {:?}, but {} is {:?}", sizes.0, first.display(), sizes.1);
                    let advice = "give a size to resize them all to (--size)";
                    return Err(Error::new(path.display().to_string(), problem, advice));
                }
                Some(_) => {}
                None => shape = Some((picture.shape.clone(), path)),
            }
            if let Values::U8(pixels) = picture.values {
                values.extend_from_slice(&pixels);
            }
            labels.push(classes.len() as i64);
        }
        classes.push(name);
    }
    let Some((shape, _)) = shape else {
        let problem = "no pictures in its folders".to_string();
        return Err(error(problem, "put PNG or JPEG files in one folder a class: root/cat/1.png"));
    };
    let mut whole = vec![labels.len()];
    whole.extend(shape);
    let name = root.file_name().map_or_else(|| "pictures".to_string(), |name| name.to_string_lossy().into_owned());
    Dataset::new(&name, Array::new(whole, Values::U8(values))?, labels, classes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::input::tests::{TestFolder, torment};

    pub(crate) fn picture(height: u32, width: u32, format: image::ImageFormat) -> Vec<u8> {
        let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 10, y as u8 * 20, 200]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_folder_becomes_a_set() {
        let folder = TestFolder::new("folder");
        for (name, kind) in [("b/2.png", "png"), ("b/1.PNG", "png"), ("a/x.jpeg", "jpeg"), (".git/x.png", "png")] {
            let path = folder.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let format = if kind == "png" { image::ImageFormat::Png } else { image::ImageFormat::Jpeg };
            std::fs::write(path, picture(4, 5, format)).unwrap();
        }
        std::fs::write(folder.0.join("b/notes.txt"), "not a picture").unwrap();
        std::fs::create_dir(folder.0.join("empty")).unwrap();
        let set = read(&folder.0, &Options::default()).unwrap();
        assert_eq!((set.classes.as_slice(), set.labels.as_slice()), (&["a".into(), "b".into()][..], &[0, 1, 1][..]));
        assert_eq!(set.inputs.shape, [3, 3, 4, 5]);
        let Values::U8(values) = &set.inputs.values else { panic!("not bytes") };
        assert_eq!(values[60..65], [0, 10, 20, 30, 40]); // red of the first row of the PNG
        assert_eq!(values[80..86], [0, 0, 0, 0, 0, 20]); // green
        assert!(values[100..120].iter().all(|&blue| blue == 200));

        let small = read(&folder.0, &Options { size: Some((2, 3)), grey: true }).unwrap();
        assert_eq!(small.inputs.shape, [3, 1, 2, 3]);

        std::fs::write(folder.0.join("b/3.png"), picture(4, 6, image::ImageFormat::Png)).unwrap();
        let error = read(&folder.0, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("3.png: is [4, 6], but") && error.contains("[4, 5]"), "{error}");
        std::fs::write(folder.0.join("b/3.png"), b"GIF89a").unwrap();
        assert!(read(&folder.0, &Options::default()).unwrap_err().to_string().contains("3.png"));
        let bare = folder.0.join("empty");
        assert!(read(bare, &Options::default()).unwrap_err().to_string().contains("no pictures"));
    }

    #[test]
    fn damaged_pictures_do_not_panic() {
        let png = picture(3, 3, image::ImageFormat::Png);
        let end = png.windows(4).position(|window| window == b"IDAT").unwrap();
        let refused =
            torment(&png, |bytes| parse_picture("memory", bytes, &Options::default()), |length| length <= end);
        assert!(refused > 100, "{refused}");
        let jpeg = picture(9, 9, image::ImageFormat::Jpeg);
        torment(&jpeg, |bytes| parse_picture("memory", bytes, &Options::default()), |length| length < 100);
        // A header that claims 2³¹ pixels a side.
        let mut vast = png.clone();
        vast[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let mut sum = flate2::Crc::new();
        sum.update(&vast[12..29]);
        vast[29..33].copy_from_slice(&sum.sum().to_be_bytes());
        let error = parse_picture("memory", &vast, &Options::default()).unwrap_err().to_string();
        assert!(error.starts_with("memory: "), "{error}");
        vast[16..24].copy_from_slice(&[0, 0, 0x7f, 0xff, 0, 0, 0x7f, 0xff]);
        let mut sum = flate2::Crc::new();
        sum.update(&vast[12..29]);
        vast[29..33].copy_from_slice(&sum.sum().to_be_bytes());
        let error = parse_picture("memory", &vast, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("claims 32767 × 32767 pixels"), "{error}");
    }
}
