//! Changes to single examples, made at random while a batch is put together.
//!
//! A transform is any `Fn(&mut Sample, &mut Rng)`; those here are for pictures `[channels, height, width]` and panic
//! on any other shape, which the loader hands to its user as an error. The generator depends on the seed, the epoch
//! and the example only. Places outside a picture are 0, so [`normalise`] comes last.

use crate::{Rng, Sample, Statistics};

/// A transform of a type not known in advance, for lists of them.
pub type Transform = Box<dyn Fn(&mut Sample, &mut Rng) + Send + Sync>;

fn picture_shape(sample: &Sample, transform: &str) -> [usize; 3] {
    match sample.shape.as_slice() {
        &[channels, height, width] => [channels, height, width],
        other => panic!("{transform} wants a picture [channels, height, width], not a sample of shape {other:?}"),
    }
}

/// Mirrors left and right with the given probability.
pub fn horizontal_flip(probability: f64) -> impl Fn(&mut Sample, &mut Rng) + Send + Sync + 'static {
    move |sample, rng| {
        let [_, _, width] = picture_shape(sample, "horizontal_flip");
        if rng.chance(probability) && width > 0 {
            sample.values.chunks_exact_mut(width).for_each(<[f32]>::reverse);
        }
    }
}

/// Cuts a `height × width` window at a random place of the picture widened by `padding` zeros on every side.
pub fn random_crop(
    height: usize,
    width: usize,
    padding: usize,
) -> impl Fn(&mut Sample, &mut Rng) + Send + Sync + 'static {
    move |sample, rng| {
        let [channels, rows, columns] = picture_shape(sample, "random_crop");
        let (most_down, most_right) =
            match ((rows + 2 * padding).checked_sub(height), (columns + 2 * padding).checked_sub(width)) {
                (Some(down), Some(right)) => (down, right),
                _ => panic!("random_crop to {height} × {width} from {rows} × {columns} padded by {padding}"),
            };
        let (top, left) = (rng.below(most_down + 1), rng.below(most_right + 1));
        let mut values = vec![0.0; channels * height * width];
        // The columns of the window that lie inside the picture.
        let (first, last) = (padding.saturating_sub(left), (padding + columns).saturating_sub(left).min(width));
        for channel in 0..channels {
            for y in 0..height {
                let Some(row) = (top + y).checked_sub(padding).filter(|&row| row < rows) else { continue };
                if first < last {
                    let to = (channel * height + y) * width;
                    let from = (channel * rows + row) * columns + (left + first - padding);
                    values[to + first..to + last].copy_from_slice(&sample.values[from..from + last - first]);
                }
            }
        }
        sample.values = values;
        sample.shape = vec![channels, height, width];
    }
}

/// Turns about the centre by a random angle of at most `degrees` either way, with bilinear interpolation.
pub fn rotation(degrees: f32) -> impl Fn(&mut Sample, &mut Rng) + Send + Sync + 'static {
    move |sample, rng| {
        let (sine, cosine) = rng.uniform(-degrees, degrees).to_radians().sin_cos();
        warp(sample, [[cosine, -sine], [sine, cosine]]);
    }
}

/// Slants horizontally about the centre by a random angle of at most `degrees` either way, with bilinear
/// interpolation. `degrees` is below 90.
pub fn shear(degrees: f32) -> impl Fn(&mut Sample, &mut Rng) + Send + Sync + 'static {
    move |sample, rng| {
        let slope = rng.uniform(-degrees, degrees).to_radians().tan();
        warp(sample, [[1.0, slope], [0.0, 1.0]]);
    }
}

/// Adds to every channel a random number of its own, from −`amount` to `amount`. Values are not limited to 0..=1.
pub fn colour_shift(amount: f32) -> impl Fn(&mut Sample, &mut Rng) + Send + Sync + 'static {
    move |sample, rng| {
        let [_, height, width] = picture_shape(sample, "colour_shift");
        for plane in sample.values.chunks_exact_mut((height * width).max(1)) {
            let shift = rng.uniform(-amount, amount);
            plane.iter_mut().for_each(|x| *x += shift);
        }
    }
}

/// `(x − mean) / deviation` for each channel of a picture or column of a table; nothing random.
pub fn normalise(statistics: Statistics) -> impl Fn(&mut Sample, &mut Rng) + Send + Sync + 'static {
    move |sample, _| {
        let channels = sample.shape.first().copied().unwrap_or(1);
        let known = statistics.mean.len();
        assert!(known == channels, "normalise has statistics of {known} channels for a sample of {channels}");
        statistics.apply(&mut sample.values);
    }
}

/// Redraws a picture so that the pixel at `(x, y)` from the centre is taken from `matrix · (x, y)` from the centre, y
/// downwards, with bilinear interpolation.
pub fn warp(sample: &mut Sample, matrix: [[f32; 2]; 2]) {
    let [channels, height, width] = picture_shape(sample, "warp");
    let (middle_x, middle_y) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    let plane = height * width;
    let mut values = vec![0.0; sample.values.len()];
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = (x as f32 - middle_x, y as f32 - middle_y);
            let source_x = matrix[0][0] * from_x + matrix[0][1] * from_y + middle_x;
            let source_y = matrix[1][0] * from_x + matrix[1][1] * from_y + middle_y;
            // Outside of this range no corner lies in the picture; within it the numbers fit an i32.
            if !(source_x > -1.0 && source_y > -1.0 && source_x < width as f32 && source_y < height as f32) {
                continue;
            }
            // Plus and minus one makes truncation a floor: `f32::floor` is a slow call without SSE 4.1.
            let (left, top) = ((source_x + 1.0) as i32, (source_y + 1.0) as i32);
            let (right_share, bottom_share) = (source_x + 1.0 - left as f32, source_y + 1.0 - top as f32);
            let (left, top) = (left as usize, top as usize);
            let to = y * width + x;
            if left >= 1 && top >= 1 && left < width && top < height {
                let from = (top - 1) * width + left - 1;
                for channel in 0..channels {
                    let pixels = &sample.values[channel * plane + from..];
                    let upper = pixels[0] * (1.0 - right_share) + pixels[1] * right_share;
                    let lower = pixels[width] * (1.0 - right_share) + pixels[width + 1] * right_share;
                    values[channel * plane + to] = upper * (1.0 - bottom_share) + lower * bottom_share;
                }
                continue;
            }
            for (row, share_y) in [(top, 1.0 - bottom_share), (top + 1, bottom_share)] {
                for (column, share_x) in [(left, 1.0 - right_share), (left + 1, right_share)] {
                    if (1..=height).contains(&row) && (1..=width).contains(&column) {
                        let from = (row - 1) * width + column - 1;
                        for channel in 0..channels {
                            values[channel * plane + to] += share_y * share_x * sample.values[channel * plane + from];
                        }
                    }
                }
            }
        }
    }
    sample.values = values;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize, height: usize, width: usize) -> Sample {
        let values = (0..channels * height * width).map(|x| x as f32 + 1.0).collect();
        Sample { values, shape: vec![channels, height, width], label: 3, index: 0 }
    }

    #[test]
    fn flipping_mirrors_rows() {
        let mut sample = picture(2, 2, 3);
        horizontal_flip(1.0)(&mut sample, &mut Rng::new(1));
        assert_eq!(sample.values, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0, 12.0, 11.0, 10.0]);
        horizontal_flip(0.0)(&mut sample, &mut Rng::new(1));
        assert_eq!(sample.values[0], 3.0);
        let mut rng = Rng::new(2);
        let flipped = (0..1000).filter(|_| {
            let mut sample = picture(1, 1, 2);
            horizontal_flip(0.5)(&mut sample, &mut rng);
            sample.values[0] == 2.0
        });
        assert!((420..580).contains(&flipped.count()));
    }

    #[test]
    fn crops_are_windows_of_the_padded_picture() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            let mut sample = picture(2, 3, 4);
            random_crop(3, 4, 2)(&mut sample, &mut Rng::new(seed));
            assert_eq!(sample.shape, [2, 3, 4]);
            // Find the one offset whose window agrees everywhere.
            let fits = |top: usize, left: usize| {
                (0..24).all(|at| {
                    let (channel, y, x) = (at / 12, at / 4 % 3, at % 4);
                    let inside = (2..5).contains(&(top + y)) && (2..6).contains(&(left + x));
                    let expected = if inside { channel * 12 + (top + y - 2) * 4 + left + x - 2 + 1 } else { 0 };
                    sample.values[at] == expected as f32
                })
            };
            let found: Vec<_> =
                (0..5).flat_map(|top| (0..5).map(move |left| (top, left))).filter(|&(t, l)| fits(t, l)).collect();
            assert!(!found.is_empty(), "no window gives {:?}", sample.values);
            seen.insert(found[0]);
        }
        assert!(seen.len() >= 20, "only {} of 25 windows", seen.len());
        let mut sample = picture(1, 2, 2);
        random_crop(6, 6, 2)(&mut sample, &mut Rng::new(1));
        assert_eq!((sample.shape.as_slice(), sample.values[14], sample.values[21]), (&[1, 6, 6][..], 1.0, 4.0));
        let mut sample = picture(1, 5, 5);
        random_crop(1, 1, 9)(&mut sample, &mut Rng::new(4));
        assert_eq!(sample.values.len(), 1);
    }

    #[test]
    fn a_quarter_turn_and_the_identity_are_exact() {
        let mut sample = picture(2, 3, 3);
        warp(&mut sample, [[1.0, 0.0], [0.0, 1.0]]);
        assert_eq!(sample, picture(2, 3, 3));
        warp(&mut sample, [[0.0, -1.0], [1.0, 0.0]]);
        assert_eq!(sample.values[..9], [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]);
        assert_eq!(sample.values[9], 12.0);
        // Half a pixel to the side: the mean of two neighbours, and half of the last one at the border.
        let mut row = Sample { values: vec![0.0, 0.0, 0.0, 2.0, 4.0, 8.0], shape: vec![1, 2, 3], label: 0, index: 0 };
        warp(&mut row, [[1.0, 1.0], [0.0, 1.0]]);
        assert_eq!(row.values, [0.0, 0.0, 0.0, 3.0, 6.0, 4.0]);
    }

    #[test]
    fn warping_agrees_with_the_definition() {
        for (seed, [channels, height, width]) in (0..).zip([[1, 7, 5], [3, 1, 4], [2, 2, 2], [1, 1, 1], [1, 13, 11]]) {
            let mut rng = Rng::new(seed);
            let matrix = [0, 1].map(|_| [0, 1].map(|_| rng.uniform(-1.5, 1.5)));
            let original = picture(channels, height, width);
            let mut sample = original.clone();
            warp(&mut sample, matrix);
            for at in 0..original.values.len() {
                let (channel, y, x) = (at / (height * width), at / width % height, at % width);
                let centred = [x as f64 - (width as f64 - 1.0) / 2.0, y as f64 - (height as f64 - 1.0) / 2.0];
                let from = |row: usize, size: usize| {
                    let [a, b] = matrix[row].map(f64::from);
                    a * centred[0] + b * centred[1] + (size as f64 - 1.0) / 2.0
                };
                let (source_x, source_y) = (from(0, width), from(1, height));
                // Each pixel counts by its distance, up to one pixel, in each direction.
                let mut expected = 0.0;
                for row in 0..height {
                    for column in 0..width {
                        let near = |a: f64, b: usize| (1.0 - (a - b as f64).abs()).max(0.0);
                        let value = original.values[(channel * height + row) * width + column];
                        expected += near(source_x, column) * near(source_y, row) * f64::from(value);
                    }
                }
                let got = f64::from(sample.values[at]);
                assert!((got - expected).abs() < 2e-5 * (original.values.len() as f64 + 1.0), "{got} {expected}");
            }
        }
    }

    #[test]
    fn rotation_and_shear_move_less_than_asked() {
        for seed in 0..50 {
            let mut still = picture(1, 5, 5);
            rotation(0.0)(&mut still, &mut Rng::new(seed));
            shear(0.0)(&mut still, &mut Rng::new(seed));
            assert_eq!(still, picture(1, 5, 5));
            // One bright pixel three to the right of the centre, turned by up to 10 degrees, moves by at most 0.53.
            let mut sample = Sample { values: vec![0.0; 81], shape: vec![1, 9, 9], label: 0, index: 0 };
            sample.values[4 * 9 + 7] = 1.0;
            rotation(10.0)(&mut sample, &mut Rng::new(seed));
            let height: f32 = (0..81).map(|at| sample.values[at] * (at / 9) as f32).sum::<f32>();
            let mass: f32 = sample.values.iter().sum();
            assert!((height / mass - 4.0).abs() < 0.6 && mass > 0.6, "{height} {mass}");
        }
    }

    #[test]
    fn colours_shift_by_channel() {
        let mut sample = picture(3, 2, 2);
        colour_shift(0.5)(&mut sample, &mut Rng::new(7));
        let shifts: Vec<f32> = sample.values.iter().enumerate().map(|(at, x)| x - (at as f32 + 1.0)).collect();
        for channel in shifts.chunks(4) {
            assert!(channel.iter().all(|shift| (shift - channel[0]).abs() < 1e-5 && shift.abs() <= 0.5001));
        }
        assert!((shifts[0] - shifts[4]).abs() > 1e-3 && (shifts[4] - shifts[8]).abs() > 1e-3);
    }

    #[test]
    fn normalising_a_sample_is_normalising_the_set() {
        let statistics = Statistics { mean: vec![1.0, 2.0], deviation: vec![2.0, 0.0] };
        let mut sample = picture(2, 1, 2);
        normalise(statistics)(&mut sample, &mut Rng::new(1));
        assert_eq!(sample.values, [0.0, 0.5, 1.0, 2.0]);
    }
}
