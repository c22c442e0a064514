//! Models that make pictures.

pub mod ddpm;
pub mod gan;
mod judge;
mod unet;
pub mod vae;

use etude::data::Split;
use etude::prelude::*;
use etude::train::plot::Images;
use etude::train::session::pictures_of;
use etude::{Error, Result};

/// The digits these études learn from: four fifths for training, one fifth for tests.
fn digits(session: &Session) -> Result<Split> {
    let digits = session.split("mnist-10k", [0.8, 0.0, 0.2])?;
    let (shape, classes, test) = (digits.train.input_shape(), digits.train.classes.len(), digits.test.len());
    if shape == [1, 28, 28] && classes <= 10 && test >= 100 {
        return Ok(digits);
    }
    let found = format!("{test} test pictures of shape {shape:?} in {classes} classes");
    Err(Error::new(format!("this étude wants 100 test pictures [1, 28, 28] in at most 10 classes, not {found}")))
}

/// Rows of pictures under a title.
fn sheet(title: &str, rows: &[Tensor], columns: usize) -> Result<Images> {
    let pictures = pictures_of(&cat(rows, 0))?;
    Ok(pictures.into_iter().fold(Images::new(title).columns(columns).tile(56.0), Images::picture))
}
