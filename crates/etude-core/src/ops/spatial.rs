//! What convolutions, pools and patches share: numbers for each spatial axis, and how windows fit.

use crate::Shape;
use std::fmt;

/// A number for each spatial axis: one for all of them (`3`), or one each (`[3, 5]`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PerAxis {
    /// How many numbers there are; 0 if one stands for all axes.
    count: usize,
    values: [usize; 3],
}

impl PerAxis {
    /// The numbers of `axes` spatial axes.
    ///
    /// # Panics
    /// If there are not as many numbers as axes.
    #[track_caller]
    pub fn to_vec(self, axes: usize) -> Vec<usize> {
        self.spread("sizes", "list", axes, 1)[3 - axes..].to_vec()
    }

    /// The numbers of `axes` spatial axes as the last of three; those in front are `rest`.
    ///
    /// # Panics
    /// If there are not as many numbers as axes, naming the `operation` and `what` the numbers are.
    #[track_caller]
    pub(crate) fn spread(self, operation: &str, what: &str, axes: usize, rest: usize) -> [usize; 3] {
        let fits = self.count == 0 || self.count == axes;
        assert!(fits, "{operation}: {what} {self:?} has {} numbers for {axes} spatial axes", self.count);
        std::array::from_fn(|i| match (i + axes).checked_sub(3) {
            None => rest,
            Some(_) if self.count == 0 => self.values[0],
            Some(axis) => self.values[axis],
        })
    }
}

impl fmt::Debug for PerAxis {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.count {
            0 => write!(f, "{}", self.values[0]),
            count => write!(f, "{:?}", &self.values[..count]),
        }
    }
}

impl From<usize> for PerAxis {
    fn from(value: usize) -> PerAxis {
        PerAxis { count: 0, values: [value; 3] }
    }
}

impl<const N: usize> From<[usize; N]> for PerAxis {
    #[track_caller]
    fn from(values: [usize; N]) -> PerAxis {
        PerAxis::from(&values[..])
    }
}

impl From<&[usize]> for PerAxis {
    #[track_caller]
    fn from(values: &[usize]) -> PerAxis {
        assert!((1..=3).contains(&values.len()), "{values:?}: there are one to three spatial axes");
        let mut all = [0; 3];
        all[..values.len()].copy_from_slice(values);
        PerAxis { count: values.len(), values: all }
    }
}

/// The spatial sizes of `[.., .., …]` with `axes` spatial axes, as the last of three; those in front are 1.
pub(crate) fn sizes(shape: &[usize], axes: usize) -> [usize; 3] {
    let mut sizes = [1; 3];
    sizes[3 - axes..].copy_from_slice(&shape[shape.len() - axes..]);
    sizes
}

/// `[first, second, …]` with the last `axes` of `spatial`.
pub(crate) fn shape(first: usize, second: usize, spatial: [usize; 3], axes: usize) -> Shape {
    [first, second].iter().chain(&spatial[3 - axes..]).copied().collect()
}

/// From the first to the last element that a kernel touches.
pub(crate) fn reach(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}

/// How many positions a window has in each of the last `axes` axes, padding on both sides; or which axis is too small.
pub(crate) fn positions(
    axes: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
) -> Result<[usize; 3], String> {
    let mut output = [1; 3];
    for axis in 3 - axes..3 {
        let name = axis + axes - 3;
        if kernel[axis] == 0 || stride[axis] == 0 || dilation[axis] == 0 {
            return Err(format!("kernel, stride and dilation must be at least 1, one is 0 in spatial axis {name}"));
        }
        let padded = input[axis].saturating_add(padding[axis].saturating_mul(2));
        let reach = reach(kernel[axis], dilation[axis]);
        let Some(room) = padded.checked_sub(reach) else {
            let (size, pad) = (input[axis], padding[axis]);
            return Err(format!(
                "the kernel reaches over {reach} elements of spatial axis {name}, \
                 which has only {padded} ({size} and {pad} of padding on each side)"
            ));
        };
        output[axis] = room / stride[axis] + 1;
    }
    Ok(output)
}
