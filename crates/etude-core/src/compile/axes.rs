//! Elementwise items joined by reshapes that only split and merge axes are written over one shape, in which the
//! axes of all of them are split. So they can share a tile program: the normalising half of a group norm, over
//! [B, G, C/G·H·W], and the affine half over [B, C, H, W] that follows it. Splitting an axis is possible for any strides.

use super::graph::{Base, Items, Located, Work};
use crate::shape::MAX_RANK;
use crate::{Shape, Window};

/// Writes items that reshapes join over one shape.
pub(crate) fn split(mut items: Items) -> Items {
    let mut clusters = Clusters::new(&items);
    // Items of one shape first: whatever else happens, they must stay together.
    let (same, others): (Vec<_>, Vec<_>) =
        joins(&items).into_iter().partition(|&(a, b)| clusters.own[a] == clusters.own[b]);
    same.into_iter().chain(others).for_each(|(from, to)| clusters.join(from, to));
    if !clusters.mixed.contains(&true) {
        return items;
    }
    for at in 0..items.items.len() {
        let shape = match (&items.items[at].work, items.items[at].iteration()) {
            (_, Some(shape)) => clusters.shape(at).map(|new| (shape, new)),
            (Work::Reduce(..), None) => folded(&items, at, &mut clusters),
            _ => None,
        };
        let Some((old, new)) = shape else { continue };
        let item = &mut items.items[at];
        for input in item.inputs.iter_mut().filter(|input| input.window.shape.rank() > 0) {
            input.window = split_window(&input.window.expanded(&old), &new);
        }
        match &mut item.work {
            Work::Reduce(_, axes) => *axes = split_axes(&old, &new, axes),
            _ => item.outputs[0].shape = new,
        }
    }
    items
}

/// Pairs of elementwise items of which the second reads all elements of the first in order, whatever shape it sees in them.
fn joins(items: &Items) -> Vec<(usize, usize)> {
    let mut joins = Vec::new();
    for (to, item) in items.items.iter().enumerate() {
        let Some(shape) = item.iteration().filter(|shape| shape.count() > 0) else { continue };
        for input in &item.inputs {
            if let Some(from) = whole(items, input)
                && input.window.shape == shape
            {
                joins.push((from, to));
            }
        }
    }
    joins
}

/// The elementwise item whose elements `input` looks at, all of them in order.
fn whole(items: &Items, input: &Located) -> Option<usize> {
    let Base::Item(from, 0) = input.base else { return None };
    let shape = items.items[from].iteration()?;
    let all = input.window == Window::contiguous(input.window.shape) && shape.count() == input.window.shape.count();
    all.then_some(from)
}

/// The shape a fold runs over and the one its input has become, if that only splits axes.
fn folded(items: &Items, at: usize, clusters: &mut Clusters) -> Option<(Shape, Shape)> {
    let input = &items.items[at].inputs[0];
    let new = clusters.shape(whole(items, input)?)?;
    let shape = input.window.shape;
    let Work::Reduce(_, axes) = &items.items[at].work else { return None };
    let refined = refine(&sizes(&shape), &new)? == new[..];
    (refined && axes.iter().all(|&axis| shape[axis] > 1)).then_some((shape, new))
}

/// Items that are to run over one shape.
struct Clusters {
    /// Each item's own shape.
    own: Vec<Shape>,
    parent: Vec<usize>,
    /// Of each cluster, by its first item: the shape, axes of size 1 left out, and whether several shapes met in it.
    refined: Vec<Vec<usize>>,
    mixed: Vec<bool>,
}

impl Clusters {
    fn new(items: &Items) -> Clusters {
        let own: Vec<Shape> = items.items.iter().map(|item| item.iteration().unwrap_or(Shape::scalar())).collect();
        let (refined, count) = (own.iter().map(sizes).collect(), own.len());
        Clusters { own, parent: (0..count).collect(), refined, mixed: vec![false; count] }
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    /// Puts two items in one cluster, if there is a shape for both.
    fn join(&mut self, a: usize, b: usize) {
        let differ = self.own[a] != self.own[b];
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        let Some(both) = refine(&self.refined[a], &self.refined[b]).filter(|both| both.len() <= MAX_RANK) else {
            return;
        };
        let (first, second) = (a.min(b), a.max(b));
        self.parent[second] = first;
        self.mixed[first] |= self.mixed[second] | differ;
        self.refined[first] = both;
    }

    /// The shape an item is to run over, if it is another than its own.
    fn shape(&mut self, at: usize) -> Option<Shape> {
        let root = self.find(at);
        self.mixed[root].then(|| Shape::new(&self.refined[root]))
    }
}

fn sizes(shape: &Shape) -> Vec<usize> {
    shape.iter().copied().filter(|&size| size != 1).collect()
}

/// The coarsest shape that splits the axes of both and merges none, if there is one.
fn refine(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (mut left, mut right) = (a.iter().copied(), b.iter().copied());
    let (mut x, mut y, mut both) = (1, 1, Vec::with_capacity(a.len().max(b.len())));
    loop {
        x = if x == 1 { left.next().unwrap_or(1) } else { x };
        y = if y == 1 { right.next().unwrap_or(1) } else { y };
        let (small, large) = (x.min(y), x.max(y));
        if large == 1 {
            return Some(both);
        }
        if small == 1 || large % small != 0 {
            return None;
        }
        both.push(small);
        (x, y) = (x / small, y / small);
    }
}

/// How many axes of `new` each axis of `old` has become.
fn parts<'a>(old: &'a Shape, new: &'a Shape) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
    let mut next = 0;
    old.iter().map(move |&size| {
        let (first, mut left) = (next, size);
        while left > 1 {
            left /= new[next];
            next += 1;
        }
        first..next
    })
}

fn split_window(window: &Window, new: &Shape) -> Window {
    let mut steps = vec![0; new.rank()];
    for (part, &stride) in parts(&window.shape, new).zip(window.strides.iter()) {
        let mut step = stride;
        for axis in part.rev() {
            steps[axis] = step;
            step *= new[axis] as isize;
        }
    }
    Window { shape: *new, offset: window.offset, strides: crate::shape::Strides::new(&steps) }
}

fn split_axes(old: &Shape, new: &Shape, axes: &[usize]) -> Vec<usize> {
    parts(old, new).enumerate().filter(|(axis, _)| axes.contains(axis)).flat_map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_refined_where_axes_only_split_and_merge() {
        let both = |a: &[usize], b: &[usize]| refine(a, b);
        assert_eq!(both(&[2, 12, 5], &[2, 3, 20]), Some(vec![2, 3, 4, 5]));
        assert_eq!(both(&[6], &[2, 3]), Some(vec![2, 3]));
        assert_eq!(both(&[4, 6], &[8, 3]), Some(vec![4, 2, 3]));
        assert_eq!(both(&[4, 6], &[6, 4]), None);
        assert_eq!(both(&[], &[]), Some(vec![]));
    }

    #[test]
    fn windows_and_axes_split() {
        let (old, new) = (Shape::new(&[2, 1, 12, 5]), Shape::new(&[2, 3, 4, 5]));
        let window = Window { shape: old, offset: 7, strides: crate::shape::Strides::new(&[0, 9, -10, 1]) };
        let split = split_window(&window, &new);
        assert_eq!((split.offset, &split.strides[..]), (7, &[0, -40, -10, 1][..]));
        assert_eq!(split_window(&Window::contiguous(old), &new), Window::contiguous(new));
        assert_eq!(split_axes(&old, &new, &[2]), [1, 2]);
        assert_eq!(split_axes(&old, &new, &[0, 3]), [0, 3]);
    }
}
