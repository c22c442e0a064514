//! Charts and image sheets as PNG files, without system fonts: curves, scatters, bars, histograms, decision regions,
//! heat maps, confusion matrices, grids of pictures, recorded graphs, and pages of several of these.
//!
//! ```
//! use etude_train::plot::Chart;
//! let png = Chart::new("LeNet-5 on mnist-10k")
//!     .labels("epoch", "loss")
//!     .line("train", [1.0, 2.0, 3.0], [0.9, 0.4, 0.2])
//!     .line("valid", [1.0, 2.0, 3.0], [0.8, 0.5, 0.4])
//!     .to_png()?;
//! # assert_eq!(&png[1..4], b"PNG");
//! # Ok::<(), etude_train::Error>(())
//! ```
//! Numbers that are not finite are left out; series of different lengths panic at the call.

mod canvas;
mod chart;
mod chart_draw;
mod colour;
mod graph;
mod heat;
mod images;
mod page;
mod picture;
mod text;
pub(crate) mod ticks;

pub use canvas::{Align, Canvas, Place, Rect};
pub use chart::{Chart, smoothed};
pub use colour::{Colour, ColourMap, series};
pub use graph::Graph;
pub use heat::{HeatMap, confusion};
pub use images::Images;
pub use page::{Page, Panel};
pub use picture::Picture;
pub use text::Weight;
pub use ticks::{Scale, TickStyle};
