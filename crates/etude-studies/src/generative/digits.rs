//! What the makers of digits share: the real ones they learn from, the classes asked for, many samples, and sheets of them.

use etude::data::Split;
use etude::prelude::*;
use etude::train::plot::Images;
use etude::train::session::pictures_of;
use etude::{Error, Result};
use std::time::Instant;

/// Four fifths for training, one fifth for tests.
pub fn split(session: &Session) -> Result<Split> {
    let digits = session.split("mnist-10k", [0.8, 0.0, 0.2])?;
    let (shape, classes, test) = (digits.train.input_shape(), digits.train.classes.len(), digits.test.len());
    if shape == [1, 28, 28] && classes <= 10 && test >= 100 {
        return Ok(digits);
    }
    let found = format!("{test} test pictures of shape {shape:?} in {classes} classes");
    Err(Error::new(format!("this étude wants 100 test pictures [1, 28, 28] in at most 10 classes, not {found}")))
}

/// The ten classes in turn: `[count]`.
pub fn in_turn(count: usize) -> Tensor {
    tensor((0..count as i64).map(|i| i % 10).collect::<Vec<_>>())
}

/// A mask that hides the lower half: ones above and zeros below, `[1, 1, 28, 28]`.
pub fn upper_half() -> Tensor {
    cat(&[ones([1, 1, 14, 28]), zeros([1, 1, 14, 28])], 2)
}

/// `count` samples of the ten classes in turn, `[count, 1, 28, 28]`, and how many milliseconds each took. `make` makes some
/// at a time, at most `most`: from classes `[B]` to `[B, 1, 28, 28]`.
pub fn samples(
    session: &Session,
    count: usize,
    most: usize,
    mut make: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<(Tensor, f64)> {
    let (clock, classes) = (Instant::now(), in_turn(count));
    let mut parts = Vec::new();
    for start in (0..count).step_by(most) {
        session.go_on()?;
        parts.push(make(&classes.narrow(0, start, most.min(count - start)))?);
    }
    let made = cat(&parts, 0);
    made.eval()?;
    Ok((made, 1e3 * clock.elapsed().as_secs_f64() / count as f64))
}

/// Rows of pictures under a title.
pub fn sheet(title: &str, rows: &[Tensor], columns: usize) -> Result<Images> {
    let pictures = pictures_of(&cat(rows, 0))?;
    Ok(pictures.into_iter().fold(Images::new(title).columns(columns).tile(56.0), Images::picture))
}
