//! `summary`: layers, output shapes and parameter counts as a table, found by recording one forward pass.

use crate::{Forward, watch};
use etude_core::{Shape, Tensor, evaluating, no_grad};
use std::fmt;

/// One layer's line.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerRow {
    /// Path and kind, such as `conv1 (Conv2d 1→6, 5×5)`.
    pub name: String,
    /// The shape it gave.
    pub output: Shape,
    /// How many numbers its parameters hold.
    pub parameters: usize,
}

/// A model's layers with totals. Displays as a table.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// The layers, in the order they ran.
    pub rows: Vec<LayerRow>,
    /// All parameters; one that several layers share counts once.
    pub total: usize,
    /// Those that are not frozen.
    pub trainable: usize,
    /// Memory of all parameters and state.
    pub bytes: usize,
    /// The most memory the planned forward pass holds at once, the parameters not counted.
    pub planned_peak: Option<usize>,
}

/// Records `model` on `input` without computing anything, and counts.
pub(crate) fn summarise(model: &impl Forward, input: &Tensor) -> Summary {
    let parameters = model.parameters();
    let (output, seen) = no_grad(|| evaluating(|| watch::watch_dry(model, input)));
    let row = |layer: watch::Seen| LayerRow {
        name: layer.text.to_string(),
        output: layer.output.shape(),
        parameters: layer.parameters,
    };
    let rows = seen.into_iter().map(row).collect();
    let plan = etude_core::plan_summary(std::slice::from_ref(&output)).ok();
    let count = |keep: fn(&crate::Param) -> bool| {
        parameters.iter().filter(|(_, param)| keep(param)).map(|(_, param)| param.count()).sum()
    };
    Summary {
        rows,
        total: count(|_| true),
        trainable: count(|param| !param.is_frozen()),
        bytes: model.tensors().iter().map(|(_, tensor)| tensor.meta().bytes()).sum(),
        planned_peak: plan.map(|plan| plan.peak_bytes),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shapes: Vec<String> = self.rows.iter().map(|row| row.output.to_string()).collect();
        let names = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(5);
        let widest = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0).max(6);
        writeln!(f, "{:<names$}  {:<widest$}  {:>12}", "layer", "output", "parameters")?;
        writeln!(f, "{}", "─".repeat(names + widest + 16))?;
        for (row, shape) in self.rows.iter().zip(&shapes) {
            let count = if row.parameters == 0 { "–".to_string() } else { grouped(row.parameters) };
            writeln!(f, "{:<names$}  {shape:<widest$}  {count:>12}", row.name)?;
        }
        writeln!(f, "{}", "─".repeat(names + widest + 16))?;
        let megabytes = self.bytes as f64 / (1 << 20) as f64;
        writeln!(f, "total parameters          {} ({megabytes:.2} MB)", grouped(self.total))?;
        writeln!(f, "trainable parameters      {}", grouped(self.trainable))?;
        write!(f, "non-trainable parameters  {}", grouped(self.total - self.trainable))?;
        if let Some(peak) = self.planned_peak {
            write!(f, "\nplanned peak              {:.2} MB beside the parameters", peak as f64 / (1 << 20) as f64)?;
        }
        Ok(())
    }
}
