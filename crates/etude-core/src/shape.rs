//! Shapes, axes and strides: small inline lists, and the arithmetic of broadcasting and views.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut, RangeFull};

/// The most axes a tensor may have.
pub const MAX_RANK: usize = 8;

/// The sizes of a tensor's axes, outermost first. A scalar has none. Dereferences to a slice.
#[derive(Clone, Copy)]
pub struct Shape {
    rank: u8,
    dims: [usize; MAX_RANK],
}

impl Shape {
    /// The shape with these sizes.
    ///
    /// # Panics
    /// If there are more than [`MAX_RANK`] axes.
    #[track_caller]
    pub fn new(dims: &[usize]) -> Shape {
        assert!(dims.len() <= MAX_RANK, "shape {dims:?} has {} axes, at most {MAX_RANK} are possible", dims.len());
        let mut shape = Shape { rank: dims.len() as u8, dims: [0; MAX_RANK] };
        shape.dims[..dims.len()].copy_from_slice(dims);
        shape
    }

    /// The shape of a scalar: no axes, one element.
    pub const fn scalar() -> Shape {
        Shape { rank: 0, dims: [0; MAX_RANK] }
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// How many elements: the product of the sizes.
    pub fn count(&self) -> usize {
        self.iter().product()
    }

    /// Adds an axis of `size` at the end.
    #[track_caller]
    pub fn push(&mut self, size: usize) {
        assert!(self.rank() < MAX_RANK, "{self} cannot take another axis: at most {MAX_RANK} are possible");
        self.dims[self.rank()] = size;
        self.rank += 1;
    }

    /// This shape with axis `axis` set to `size`.
    pub fn with(mut self, axis: usize, size: usize) -> Shape {
        self[axis] = size;
        self
    }

    /// This shape without axis `axis`.
    pub fn without(&self, axis: usize) -> Shape {
        self.iter().enumerate().filter(|&(i, _)| i != axis).map(|(_, &d)| d).collect()
    }

    /// This shape with an axis of `size` put in at `axis`.
    #[track_caller]
    pub fn inserted(&self, axis: usize, size: usize) -> Shape {
        let mut dims: Vec<usize> = self.to_vec();
        dims.insert(axis, size);
        Shape::new(&dims)
    }

    /// Strides, in elements, of a contiguous tensor of this shape.
    pub fn contiguous_strides(&self) -> Strides {
        let mut strides = Strides { rank: self.rank, steps: [0; MAX_RANK] };
        let mut step = 1isize;
        for axis in (0..self.rank()).rev() {
            strides.steps[axis] = step;
            step *= self[axis].max(1) as isize;
        }
        strides
    }

    /// The shape both operands broadcast to (NumPy's rule), or the axis, counted from the right, where they cannot.
    pub fn broadcast(&self, other: &Shape) -> Result<Shape, usize> {
        let rank = self.rank().max(other.rank());
        let mut result = Shape { rank: rank as u8, dims: [0; MAX_RANK] };
        for back in 1..=rank {
            let a = if back <= self.rank() { self[self.rank() - back] } else { 1 };
            let b = if back <= other.rank() { other[other.rank() - back] } else { 1 };
            result[rank - back] = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return Err(back),
            };
        }
        Ok(result)
    }

    /// The position of `axis`, which may count from the end, or an explanation.
    pub fn axis(&self, axis: i32) -> Result<usize, String> {
        let rank = self.rank() as i32;
        if (-rank..rank).contains(&axis) {
            return Ok(if axis < 0 { (axis + rank) as usize } else { axis as usize });
        }
        Err(format!("axis {axis} does not exist in {self}, which has {rank} axes"))
    }

    /// The positions of `axes`, sorted and without doubles, or an explanation.
    pub fn axes(&self, axes: &Axes) -> Result<Vec<usize>, String> {
        let Axes::Some(list) = axes else { return Ok((0..self.rank()).collect()) };
        let mut found = list.iter().map(|&axis| self.axis(axis)).collect::<Result<Vec<_>, _>>()?;
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("axes {list:?} name an axis of {self} twice"));
        }
        Ok(found)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }
}

impl DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.dims[..self.rank as usize]
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Shape {
        let mut shape = Shape::scalar();
        dims.into_iter().for_each(|size| shape.push(size));
        shape
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    #[track_caller]
    fn from(dims: [usize; N]) -> Shape {
        Shape::new(&dims)
    }
}

impl From<&[usize]> for Shape {
    #[track_caller]
    fn from(dims: &[usize]) -> Shape {
        Shape::new(dims)
    }
}

impl From<&Vec<usize>> for Shape {
    #[track_caller]
    fn from(dims: &Vec<usize>) -> Shape {
        Shape::new(dims)
    }
}

impl From<Vec<usize>> for Shape {
    #[track_caller]
    fn from(dims: Vec<usize>) -> Shape {
        Shape::new(&dims)
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Shape {
        *shape
    }
}

impl From<usize> for Shape {
    fn from(size: usize) -> Shape {
        Shape::new(&[size])
    }
}

impl PartialEq<[usize]> for Shape {
    fn eq(&self, other: &[usize]) -> bool {
        self[..] == *other
    }
}

impl<const N: usize> PartialEq<[usize; N]> for Shape {
    fn eq(&self, other: &[usize; N]) -> bool {
        self[..] == other[..]
    }
}

/// Steps, in elements, from one index to the next along each axis. 0 repeats, negative runs backwards.
#[derive(Clone, Copy)]
pub struct Strides {
    rank: u8,
    steps: [isize; MAX_RANK],
}

impl Strides {
    /// These steps, one an axis.
    pub fn new(steps: &[isize]) -> Strides {
        let mut strides = Strides { rank: steps.len() as u8, steps: [0; MAX_RANK] };
        strides.steps[..steps.len()].copy_from_slice(steps);
        strides
    }
}

// Comparing and hashing look at the axes there are, not at all that could be: both happen for every recorded node.

impl PartialEq for Shape {
    fn eq(&self, other: &Shape) -> bool {
        // A loop: for a few numbers a call that compares memory costs more than the comparison.
        self.rank == other.rank && self.iter().zip(other.iter()).all(|(a, b)| a == b)
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.rank);
        self.iter().for_each(|&size| state.write_usize(size));
    }
}

impl PartialEq for Strides {
    fn eq(&self, other: &Strides) -> bool {
        self.rank == other.rank && self.iter().zip(other.iter()).all(|(a, b)| a == b)
    }
}

impl Eq for Strides {}

impl Hash for Strides {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.rank);
        self.iter().for_each(|&step| state.write_usize(step as usize));
    }
}

impl Deref for Strides {
    type Target = [isize];
    fn deref(&self) -> &[isize] {
        &self.steps[..self.rank as usize]
    }
}

impl fmt::Debug for Strides {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}

/// Which axes an operation works on: one (`-1`), several (`[0, 2]`) or all (`..`). Negative numbers count from the end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Axes {
    /// Every axis.
    All,
    /// These.
    Some(Vec<i32>),
}

impl From<RangeFull> for Axes {
    fn from(_: RangeFull) -> Axes {
        Axes::All
    }
}

impl From<i32> for Axes {
    fn from(axis: i32) -> Axes {
        Axes::Some(vec![axis])
    }
}

impl<const N: usize> From<[i32; N]> for Axes {
    fn from(axes: [i32; N]) -> Axes {
        Axes::Some(axes.to_vec())
    }
}

impl From<&[i32]> for Axes {
    fn from(axes: &[i32]) -> Axes {
        Axes::Some(axes.to_vec())
    }
}

impl From<Vec<i32>> for Axes {
    fn from(axes: Vec<i32>) -> Axes {
        Axes::Some(axes)
    }
}

/// A strided window on storage: what a view operation turns another window into, without touching an element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// Sizes.
    pub shape: Shape,
    /// Element offset of the first element.
    pub offset: usize,
    /// Steps.
    pub strides: Strides,
}

impl Window {
    /// The whole of a contiguous buffer.
    pub fn contiguous(shape: Shape) -> Window {
        Window { shape, offset: 0, strides: shape.contiguous_strides() }
    }

    /// Whether elements lie one after the other in order (axes of size 1 do not matter).
    pub fn is_contiguous(&self) -> bool {
        let wanted = self.shape.contiguous_strides();
        self.shape.count() == 0 || (0..self.shape.rank()).all(|i| self.shape[i] == 1 || self.strides[i] == wanted[i])
    }

    /// Axes reordered: axis `i` of the result is axis `order[i]`.
    pub fn permuted(&self, order: &[usize]) -> Window {
        let steps: Vec<isize> = order.iter().map(|&a| self.strides[a]).collect();
        Window {
            shape: order.iter().map(|&a| self.shape[a]).collect(),
            strides: Strides::new(&steps),
            offset: self.offset,
        }
    }

    /// Broadcast to `shape`: size-1 axes and missing leading axes get stride 0.
    pub fn expanded(&self, shape: &Shape) -> Window {
        let extra = shape.rank() - self.shape.rank();
        let mut steps = [0isize; MAX_RANK];
        for axis in extra..shape.rank() {
            let old = axis - extra;
            steps[axis] = if self.shape[old] == 1 && shape[axis] != 1 { 0 } else { self.strides[old] };
        }
        Window { shape: *shape, strides: Strides::new(&steps[..shape.rank()]), offset: self.offset }
    }

    /// Along each axis, from `start[i]` in steps of `step[i]` (negative runs backwards), `shape[i]` elements.
    pub fn sliced(&self, start: &[usize], step: &[isize], shape: &Shape) -> Window {
        let mut steps = [0isize; MAX_RANK];
        let mut offset = self.offset as isize;
        for axis in 0..shape.rank() {
            steps[axis] = self.strides[axis] * step[axis];
            if shape.count() > 0 {
                offset += self.strides[axis] * start[axis] as isize;
            }
        }
        Window { shape: *shape, strides: Strides::new(&steps[..shape.rank()]), offset: offset as usize }
    }

    /// The same elements in the same order under another shape, if strides can say it.
    pub fn reshaped(&self, shape: &Shape) -> Option<Window> {
        if self.is_contiguous() {
            return Some(Window { shape: *shape, offset: self.offset, strides: shape.contiguous_strides() });
        }
        // Old axes, size-1 ones left out, are matched with runs of new axes of the same product.
        let old: Vec<(usize, isize)> =
            (0..self.shape.rank()).filter(|&a| self.shape[a] != 1).map(|a| (self.shape[a], self.strides[a])).collect();
        let mut steps = [0isize; MAX_RANK];
        let (mut from, mut axis) = (0, 0);
        while axis < shape.rank() {
            if shape[axis] == 1 {
                axis += 1;
                continue;
            }
            let (first_old, first_new) = (from, axis);
            let (mut old_count, mut new_count) = (old.get(from)?.0, shape[axis]);
            while old_count != new_count {
                if old_count < new_count {
                    from += 1;
                    old_count *= old.get(from)?.0;
                } else {
                    axis += 1;
                    new_count *= *shape.get(axis)?;
                }
            }
            // The old axes of the run must themselves be laid out one inside the other.
            for i in first_old..from {
                if old[i].1 != old[i + 1].1 * old[i + 1].0 as isize {
                    return None;
                }
            }
            let mut step = old[from].1;
            for a in (first_new..=axis).rev() {
                steps[a] = step;
                step *= shape[a] as isize;
            }
            from += 1;
            axis += 1;
        }
        Some(Window { shape: *shape, offset: self.offset, strides: Strides::new(&steps[..shape.rank()]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims)
    }

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(shape(&[3, 1]).broadcast(&shape(&[4])), Ok(shape(&[3, 4])));
        assert_eq!(shape(&[0, 1]).broadcast(&shape(&[1, 5])), Ok(shape(&[0, 5])));
        assert_eq!(shape(&[]).broadcast(&shape(&[2])), Ok(shape(&[2])));
        assert_eq!(shape(&[3, 2]).broadcast(&shape(&[4, 2])), Err(2));
    }

    #[test]
    fn reshape_of_views() {
        let whole = Window::contiguous(shape(&[4, 6]));
        let left = whole.sliced(&[0, 0], &[1, 1], &shape(&[4, 3]));
        assert_eq!(left.reshaped(&shape(&[2, 2, 3])).unwrap().strides[..], [12, 6, 1]);
        assert!(left.reshaped(&shape(&[12])).is_none());
        assert!(whole.permuted(&[1, 0]).reshaped(&shape(&[24])).is_none());
        assert_eq!(whole.permuted(&[1, 0]).reshaped(&shape(&[6, 1, 4])).unwrap().strides[..][0], 1);
        assert_eq!(whole.sliced(&[3, 0], &[-1, 1], &shape(&[4, 6])).reshaped(&shape(&[4, 2, 3])).unwrap().offset, 18);
    }

    #[test]
    fn axes_are_checked() {
        assert_eq!(shape(&[2, 3]).axes(&Axes::from([-1, 0])), Ok(vec![0, 1]));
        assert!(shape(&[2, 3]).axes(&Axes::from([1, -1])).is_err());
        assert!(shape(&[2, 3]).axis(2).is_err());
    }
}
