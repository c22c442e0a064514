//! Small images: from numbers, from and to PNG.

use super::colour::{Colour, ColourMap};
use crate::error::{Error, Result};
use std::path::Path;

/// The most pixels a picture read from a file may have: 64 million.
const MOST_PIXELS: u64 = 1 << 26;

/// An RGB image in memory, 8 bits a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// From RGB bytes, row by row.
    #[track_caller]
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        assert!(pixels.len() == width * height * 3, "picture: {} bytes for {width}×{height} RGB", pixels.len());
        Self { width, height, pixels }
    }

    /// From one value a pixel in `[low, high]`, row by row, through a colour map.
    #[track_caller]
    pub fn mapped(width: usize, height: usize, values: &[f32], (low, high): (f32, f32), map: ColourMap) -> Self {
        assert!(values.len() == width * height, "picture: {} values for {width}×{height}", values.len());
        let span = if high > low { high - low } else { 1.0 };
        let colours = values.iter().map(|value| map.at((value - low) / span));
        Self { width, height, pixels: colours.flat_map(|c| [c.0, c.1, c.2]).collect() }
    }

    /// From grey values in `[0, 1]`, row by row.
    #[track_caller]
    pub fn grey(width: usize, height: usize, values: &[f32]) -> Self {
        Self::mapped(width, height, values, (0.0, 1.0), ColourMap::Greys)
    }

    /// From signed values such as a filter's weights: blue below zero, white at zero, red above, to the largest
    /// magnitude present.
    #[track_caller]
    pub fn signed(width: usize, height: usize, values: &[f32]) -> Self {
        let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        Self::mapped(width, height, values, (-most, most), ColourMap::Diverging)
    }

    /// From three planes of values in `[0, 1]` (`[3, height, width]`).
    #[track_caller]
    pub fn planes(width: usize, height: usize, values: &[f32]) -> Self {
        let plane = width * height;
        assert!(values.len() == 3 * plane, "picture: {} values for 3×{height}×{width}", values.len());
        let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        let pixels = (0..plane).flat_map(|i| [0, 1, 2].map(|c| byte(values[c * plane + i])));
        Self { width, height, pixels: pixels.collect() }
    }

    /// Pictures of one size side by side, `columns` in a row, `gap` white pixels around each; as many as there are.
    #[track_caller]
    pub fn sheet(pictures: &[Picture], columns: usize, gap: usize) -> Self {
        let (width, height) = pictures.first().map_or((0, 0), |first| (first.width, first.height));
        let columns = columns.clamp(1, pictures.len().max(1));
        let across = columns * (width + gap) + gap;
        let down = pictures.len().div_ceil(columns) * (height + gap) + gap;
        let mut pixels = vec![255; across * down * 3];
        for (i, picture) in pictures.iter().enumerate() {
            let size = (picture.width, picture.height);
            assert!(size == (width, height), "sheet: a picture of {}×{} among {width}×{height}", size.0, size.1);
            let left = gap + (i % columns) * (width + gap);
            let top = gap + (i / columns) * (height + gap);
            for (row, line) in picture.pixels.chunks_exact(width * 3).enumerate() {
                let start = ((top + row) * across + left) * 3;
                pixels[start..start + width * 3].copy_from_slice(line);
            }
        }
        Self { width: across, height: down, pixels }
    }

    /// Every pixel as a block of `times`×`times`.
    pub fn enlarged(&self, times: usize) -> Self {
        let mut pixels = Vec::with_capacity(self.pixels.len() * times * times);
        for line in self.pixels.chunks_exact(self.width.max(1) * 3) {
            let wide: Vec<u8> = line.chunks_exact(3).flat_map(|pixel| pixel.repeat(times)).collect();
            (0..times).for_each(|_| pixels.extend_from_slice(&wide));
        }
        Self { width: self.width * times, height: self.height * times, pixels }
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// RGB bytes, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The colour of one pixel.
    #[track_caller]
    pub fn at(&self, x: usize, y: usize) -> Colour {
        assert!(x < self.width && y < self.height, "picture: pixel {x}, {y} of {}×{}", self.width, self.height);
        let at = (y * self.width + x) * 3;
        Colour(self.pixels[at], self.pixels[at + 1], self.pixels[at + 2])
    }

    /// The bytes of a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let fail =
            |e: png::EncodingError| Error::new(format!("cannot make a PNG of {}×{}: {e}", self.width, self.height));
        let mut bytes = Vec::new();
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(fail)?;
        writer.write_image_data(&self.pixels).map_err(fail)?;
        writer.finish().map_err(fail)?;
        Ok(bytes)
    }

    /// Writes a PNG file, whole or not at all.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::files::write_atomic(path, &self.to_png()?)
    }

    /// Reads a PNG file of any colour type; transparent parts lie on white. At most 64 million pixels.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = crate::files::read_bytes(path, 1 << 28)?;
        Self::from_png(&bytes).map_err(|what| Error::at(path, what).remedy("give a PNG picture"))
    }

    fn from_png(bytes: &[u8]) -> std::result::Result<Self, String> {
        let limits = png::Limits { bytes: 1 << 29 };
        let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
        let mut reader = decoder.read_info().map_err(|e| format!("not a PNG picture: {e}"))?;
        let (width, height) = (reader.info().width, reader.info().height);
        if u64::from(width) * u64::from(height) > MOST_PIXELS {
            return Err(format!("{width}×{height} pixels, more than the {MOST_PIXELS} allowed"));
        }
        // The header only claims a size; deflate packs a thousand to one at most, so a small file cannot be a large one.
        let size = reader.output_buffer_size().ok_or("a size that does not fit in memory")?;
        if size as u64 / 1100 > bytes.len() as u64 {
            return Err("a file too short for the size it claims".into());
        }
        let mut buffer = vec![0; size];
        let frame = reader.next_frame(&mut buffer).map_err(|e| format!("damaged picture: {e}"))?;
        let channels = frame.color_type.samples();
        let over =
            |value: u8, alpha: u8| (u32::from(value) * u32::from(alpha) + 255 * (255 - u32::from(alpha)) + 127) / 255;
        let rgb = |p: &[u8]| match channels {
            1 => [p[0]; 3],
            2 => [over(p[0], p[1]) as u8; 3],
            3 => [p[0], p[1], p[2]],
            _ => [0, 1, 2].map(|i| over(p[i], p[3]) as u8),
        };
        let pixels = buffer[..frame.buffer_size()].chunks_exact(channels).flat_map(rgb).collect();
        Ok(Self { width: width as usize, height: height as usize, pixels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_comes_back() {
        let picture = Picture::from_rgb(3, 2, (0..18).map(|i| i * 13).collect());
        let png = picture.to_png().unwrap();
        assert_eq!(Picture::from_png(&png).unwrap(), picture);
        for cut in 0..png.len() - 12 {
            assert!(Picture::from_png(&png[..cut]).is_err(), "{cut}");
        }
        assert!(Picture::from_png(b"GIF89a").unwrap_err().contains("not a PNG"));
    }

    #[test]
    fn sheets_and_blocks_put_pixels_where_they_belong() {
        let shade = |shade: u8| Picture::from_rgb(2, 1, vec![shade; 6]);
        let sheet = Picture::sheet(&[shade(1), shade(2), shade(3)], 2, 1);
        assert_eq!((sheet.width, sheet.height), (7, 5));
        let reds: Vec<u8> = (0..5).flat_map(|y| (0..7).map(move |x| (x, y))).map(|(x, y)| sheet.at(x, y).0).collect();
        let w = 255;
        assert_eq!(reds[7..14], [w, 1, 1, w, 2, 2, w]);
        assert_eq!(reds[21..28], [w, 3, 3, w, w, w, w]);
        let large = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).enlarged(2);
        assert_eq!(large.pixels, [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
        assert_eq!(Picture::sheet(&[], 3, 2).width, 4, "nothing but the gaps around");
    }

    #[test]
    fn a_huge_claim_is_refused() {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 8000, 8000);
        encoder.set_color(png::ColorType::Rgb);
        drop(encoder.write_header().unwrap());
        assert!(Picture::from_png(&bytes).is_err());
    }

    #[test]
    fn transparent_lies_on_white() {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(png::ColorType::GrayscaleAlpha);
        encoder.write_header().unwrap().write_image_data(&[0, 0, 0, 255]).unwrap();
        assert_eq!(Picture::from_png(&bytes).unwrap().pixels(), [255, 255, 255, 0, 0, 0]);
    }

    #[test]
    fn numbers_become_colours() {
        assert_eq!(Picture::grey(2, 1, &[0.0, 1.0]).pixels(), [0, 0, 0, 255, 255, 255]);
        assert_eq!(Picture::planes(1, 1, &[1.0, 0.0, 0.5]).pixels(), [255, 0, 128]);
        assert_eq!(Picture::signed(1, 1, &[0.0]).at(0, 0), ColourMap::Diverging.at(0.5));
        let signed = Picture::signed(3, 1, &[-2.0, 0.0, 2.0]);
        assert_eq!(signed.at(2, 0), ColourMap::Diverging.at(1.0));
        assert_eq!(signed.at(0, 0), ColourMap::Diverging.at(0.0));
    }
}
