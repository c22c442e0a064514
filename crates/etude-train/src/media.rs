//! What a run shows and plays: pictures, pictures over time, animations, sound, text.

use crate::files;
use crate::plot::{Images, Picture};
use crate::run::{plain, write_media};
use crate::session::pictures_of;
use crate::units;
use crate::{Error, Result};
use etude_core::Tensor;
use std::path::{Path, PathBuf};

/// Writes into a run's folder, at one step of it. Every file appears whole or not at all; one of the same name is
/// replaced.
#[derive(Clone, Debug)]
pub struct Media {
    folder: PathBuf,
    step: u64,
}

/// The most a frame may weigh when an animation is made.
const MOST_FRAME: u64 = 1 << 26;

impl Media {
    pub(crate) fn new(run: &Path, step: u64) -> Media {
        Media { folder: run.to_path_buf(), step }
    }

    /// A file of any kind under its whole name. Returns its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        write_media(&self.folder, name, bytes)
    }

    /// A picture, as `NAME.png`.
    pub fn picture(&self, name: &str, picture: &Picture) -> Result<()> {
        self.file(&format!("{name}.png"), &picture.to_png()?).map(|_| ())
    }

    /// Text, as `NAME.txt`.
    pub fn text(&self, name: &str, text: &str) -> Result<()> {
        self.file(&format!("{name}.txt"), text.as_bytes()).map(|_| ())
    }

    /// Sound of one channel with values in −1 … 1, `rate` of them a second, as `NAME.wav`, 16 bits each.
    pub fn sound(&self, name: &str, rate: u32, samples: &[f32]) -> Result<()> {
        self.file(&format!("{name}.wav"), &wav(rate, samples)?).map(|_| ())
    }

    /// Pictures `[N, 1, H, W]` or `[N, 3, H, W]` of values in 0 … 1 in a grid about as wide as high: `NAME.png` shows
    /// them as they are now, and the moment becomes a frame of `NAME`.
    pub fn grid(&self, name: &str, pictures: &Tensor) -> Result<()> {
        let columns = (pictures.shape()[0] as f64).sqrt().ceil() as usize;
        let sheet = Picture::sheet(&pictures_of(pictures)?, columns, 2);
        // Small pictures are easier to see in blocks of 2×2 pixels.
        let sheet = if sheet.width() < 400 { sheet.enlarged(2) } else { sheet };
        self.picture(name, &sheet)?;
        self.frame(name, &sheet)
    }

    /// One more moment of the moving picture `name`: `frames/NAME/STEP.png`.
    pub fn frame(&self, name: &str, picture: &Picture) -> Result<()> {
        let folder = self.folder.join("frames").join(plain(name)?);
        files::make_folder(&folder)?;
        picture.save(folder.join(format!("{:08}.png", self.step)))
    }

    /// The frames of `name` so far, with their steps.
    pub fn frames(&self, name: &str) -> Result<Vec<(u64, Picture)>> {
        let folder = self.folder.join("frames").join(plain(name)?);
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let step = |path: &Path| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let mut found: Vec<(u64, PathBuf)> =
            entries.filter_map(|entry| Some((step(&entry.path())?, entry.path()))).collect();
        found.sort();
        found
            .into_iter()
            .map(|(step, path)| {
                let size = path.metadata().map_or(u64::MAX, |data| data.len());
                if size > MOST_FRAME {
                    return Err(Error::at(path, "larger than a frame can be").remedy("remove the file"));
                }
                Ok((step, Picture::open(path)?))
            })
            .collect()
    }

    /// All frames of `name` as an animation, `NAME.gif`, `seconds` each and the last one three times as long, and as
    /// `NAME-over-time.png`, a sheet of at most `shown` of them.
    pub fn film(&self, name: &str, seconds: f64, shown: usize) -> Result<()> {
        let frames = self.frames(name)?;
        if frames.is_empty() {
            return Ok(());
        }
        let mut sheet = Images::new(name).columns(shown.div_ceil(2)).tile(frames[0].1.width() as f32 / 2.0);
        let shown = shown.clamp(1, frames.len());
        for i in 0..shown {
            let (step, picture) = &frames[(frames.len() - 1) * i / (shown - 1).max(1)];
            let caption = format!("step {}", units::grouped(*step));
            sheet = sheet.captioned(picture.clone(), caption, crate::plot::Colour::GREY);
        }
        self.file(&format!("{name}-over-time.png"), &sheet.to_png()?)?;
        let pictures: Vec<Picture> = frames.into_iter().map(|(_, picture)| picture).collect();
        self.animation(name, &pictures, seconds)
    }

    /// Pictures one after another for ever, `seconds` each and the last one three times as long, as `NAME.gif`. All
    /// have the size of the first.
    pub fn animation(&self, name: &str, pictures: &[Picture], seconds: f64) -> Result<()> {
        self.file(&format!("{name}.gif"), &gif(pictures, seconds)?).map(|_| ())
    }
}

/// A GIF that repeats. Pictures of up to 256 colours keep them exactly.
fn gif(pictures: &[Picture], seconds: f64) -> Result<Vec<u8>> {
    let Some(first) = pictures.first() else { return Err(Error::new("an animation needs one picture at least")) };
    let (Ok(width), Ok(height)) = (u16::try_from(first.width()), u16::try_from(first.height())) else {
        return Err(Error::new(format!("{}×{} is too large for a GIF", first.width(), first.height())));
    };
    let fail = |error: gif::EncodingError| Error::new(format!("cannot make a GIF: {error}"));
    let mut bytes = Vec::new();
    // Each frame has its own colours. Some viewers take those of the file for frames in shades of grey, so these are greys.
    let greys: Vec<u8> = (0..=u8::MAX).flat_map(|shade| [shade; 3]).collect();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &greys).map_err(fail)?;
    encoder.set_repeat(gif::Repeat::Infinite).map_err(fail)?;
    let hundredths = (seconds * 100.0).round().clamp(2.0, 20_000.0) as u16;
    for (i, picture) in pictures.iter().enumerate() {
        if (picture.width(), picture.height()) != (first.width(), first.height()) {
            let sizes = (first.width(), first.height(), picture.width(), picture.height());
            let text =
                format!("an animation of {}×{} cannot take a picture of {}×{}", sizes.0, sizes.1, sizes.2, sizes.3);
            return Err(Error::new(text));
        }
        // 10 is the quantiser's usual sampling: one pixel in ten, where there are more than 256 colours.
        let mut frame = gif::Frame::from_rgb_speed(width, height, picture.pixels(), 10);
        frame.delay = if i + 1 == pictures.len() { hundredths * 3 } else { hundredths };
        encoder.write_frame(&frame).map_err(fail)?;
    }
    drop(encoder);
    Ok(bytes)
}

/// A RIFF file of one channel, 16 bits a sample (Microsoft and IBM, Multimedia Programming Interface, 1991).
fn wav(rate: u32, samples: &[f32]) -> Result<Vec<u8>> {
    let size = u32::try_from(samples.len() * 2 + 36).map_err(|_| Error::new("a WAV file holds at most 4 GB"))?;
    let mut bytes = Vec::with_capacity(44 + samples.len() * 2);
    bytes.extend(b"RIFF");
    bytes.extend(size.to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    // Plain numbers, one channel.
    bytes.extend([1, 0, 1, 0]);
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * 2).to_le_bytes());
    bytes.extend([2, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend((size - 36).to_le_bytes());
    let number = |value: &f32| (value.clamp(-1.0, 1.0) * 32_767.0).round() as i16;
    bytes.extend(samples.iter().flat_map(|value| number(value).to_le_bytes()));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    fn media(name: &str, step: u64) -> (Scratch, Media) {
        let scratch = Scratch::new(name);
        std::fs::create_dir_all(scratch.0.join("media")).unwrap();
        let media = Media::new(&scratch.0, step);
        (scratch, media)
    }

    fn plain_picture(shade: u8) -> Picture {
        Picture::from_rgb(6, 4, (0..24).flat_map(|i| [shade, i * 3, 255 - shade]).collect())
    }

    #[test]
    fn an_animation_keeps_its_frames() {
        let pictures: Vec<Picture> = [0, 100, 200].map(plain_picture).into();
        let bytes = gif(&pictures, 0.25).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes.as_slice()).unwrap();
        for (i, picture) in pictures.iter().enumerate() {
            let frame = decoder.read_next_frame().unwrap().unwrap();
            assert_eq!(frame.delay, if i == 2 { 75 } else { 25 });
            let rgb: Vec<u8> = frame.buffer.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
            assert_eq!(rgb, picture.pixels(), "few colours come back exactly");
        }
        assert!(decoder.read_next_frame().unwrap().is_none());
        assert!(gif(&[], 1.0).is_err());
        let wide = Picture::from_rgb(1, 1, vec![0; 3]);
        assert!(gif(&[plain_picture(0), wide], 1.0).unwrap_err().to_string().contains("6×4"));
    }

    #[test]
    fn a_sound_has_its_header_and_stays_in_range() {
        let bytes = wav(8000, &[0.0, 1.0, -1.0, 7.0, f32::NAN]).unwrap();
        assert_eq!(bytes.len(), 44 + 10);
        assert_eq!(&bytes[..4], b"RIFF");
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize, bytes.len() - 8);
        assert_eq!(u32::from_le_bytes(bytes[24..28].try_into().unwrap()), 8000);
        assert_eq!(bytes[44..], [0, 0, 0xff, 0x7f, 0x01, 0x80, 0xff, 0x7f, 0, 0]);
    }

    #[test]
    fn grids_are_frames_and_frames_a_film() {
        let (scratch, _) = media("film", 0);
        for step in [500, 1000, 1_500] {
            let pictures = etude_core::full([5, 1, 3, 4], step as f64 / 1500.0);
            Media::new(&scratch.0, step).grid("samples", &pictures).unwrap();
        }
        let media = Media::new(&scratch.0, 1500);
        let frames = media.frames("samples").unwrap();
        assert_eq!(frames.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [500, 1000, 1500]);
        // Three columns and two rows of 4×3, two pixels between and around, in blocks of 2×2.
        assert_eq!((frames[0].1.width(), frames[0].1.height()), (2 * (3 * 4 + 8), 2 * (2 * 3 + 6)));
        media.film("samples", 0.5, 2).unwrap();
        media.film("nothing", 0.5, 2).unwrap();
        for name in ["samples.png", "samples.gif", "samples-over-time.png"] {
            assert!(scratch.0.join("media").join(name).exists(), "{name}");
        }
        assert!(!scratch.0.join("media/nothing.gif").exists());
        assert!(
            media.text("../escape", "").is_err() && media.grid("a/b", &etude_core::full([1, 1, 1, 1], 0.0)).is_err()
        );
    }
}
