//! Elementwise items that run over the same shape and can run at the same time become one tile program;
//! a fold whose input comes from such a group becomes its tail.
//!
//! Time is counted in steps: an item runs one step after its inputs, except that elementwise work of one shape shares a
//! step. An item may be as late as its users allow, which keeps a mask for the way back from being stored on the way
//! there. Groups are connected items of one step, so no group can wait for itself.

use super::graph::{Base, Items, Located, Work};
use crate::Window;

/// Items that run as one step, in order. A fold can only stand at the end, as a tail.
pub(crate) type Group = Vec<usize>;

/// Most items in one program: bounds registers and keeps tiles in the first-level cache.
const LARGEST: usize = 48;

/// Cuts the items into groups.
pub(crate) fn fuse(items: &Items) -> Vec<Group> {
    let users = users(items);
    let wanted = wanted(items);
    let times = times(items, &users, &wanted);
    let mut groups = connected(items, &times);
    attach_folds(items, &users, &wanted, &mut groups);
    groups.into_iter().flat_map(|group| split(items, group, LARGEST)).collect()
}

/// Whether `input` is the whole, untouched output of an elementwise item over `shape`: a register, not memory.
pub(crate) fn direct(items: &Items, input: &Located, shape: &crate::Shape) -> Option<usize> {
    let Base::Item(item, 0) = input.base else { return None };
    let iteration = items.items[item].iteration()?;
    (iteration == *shape && input.window == Window::contiguous(*shape)).then_some(item)
}

/// Which items read each item.
pub(super) fn users(items: &Items) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); items.items.len()];
    for (at, item) in items.items.iter().enumerate() {
        for input in &item.inputs {
            if let Base::Item(from, _) = input.base {
                users[from].push(at);
            }
        }
    }
    users
}

/// The group of each item.
pub(super) fn members(items: &Items, groups: &[Group]) -> Vec<usize> {
    let mut member = vec![usize::MAX; items.items.len()];
    for (number, group) in groups.iter().enumerate() {
        group.iter().for_each(|&item| member[item] = number);
    }
    member
}

/// Which items hold a wanted result.
pub(super) fn wanted(items: &Items) -> Vec<bool> {
    let mut wanted = vec![false; items.items.len()];
    for place in items.roots.iter().flatten() {
        if let Base::Item(item, _) = place.base {
            wanted[item] = true;
        }
    }
    wanted
}

/// Steps between `from` and its user `to`: 0 if they can share one.
fn distance(items: &Items, from: usize, to: usize) -> i32 {
    let shared = items.items[to].iteration().is_some_and(|shape| {
        // Every use must be direct: the same value read through another window needs memory.
        let reads = |input: &&Located| matches!(input.base, Base::Item(item, _) if item == from);
        items.items[to].inputs.iter().filter(reads).all(|input| direct(items, input, &shape).is_some())
    });
    !shared as i32
}

/// The step each item can run at, given its inputs and a step it does not run before.
fn earliest(items: &Items, least: Vec<i32>) -> Vec<i32> {
    let mut times = least;
    for (at, item) in items.items.iter().enumerate() {
        for input in &item.inputs {
            if let Base::Item(from, _) = input.base {
                times[at] = times[at].max(times[from] + distance(items, from, at));
            }
        }
    }
    times
}

/// The step each item runs at.
pub(super) fn times(items: &Items, users: &[Vec<usize>], wanted: &[bool]) -> Vec<i32> {
    let mut times = earliest(items, vec![0i32; items.items.len()]);
    if !items.later.is_empty() {
        let mut least = vec![0; times.len()];
        items.later.iter().for_each(|&(at, other)| least[at] = least[at].max(times[other] + 1));
        times = earliest(items, least);
    }
    // From the back: as late as the users allow.
    for at in (0..items.items.len()).rev() {
        if items.items[at].iteration().is_none() || wanted[at] || users[at].is_empty() {
            continue;
        }
        let latest = users[at].iter().map(|&user| times[user] - distance(items, at, user)).min();
        times[at] = times[at].max(latest.unwrap_or(times[at]));
    }
    times
}

/// Connected elementwise items of one time; every other item alone.
fn connected(items: &Items, times: &[i32]) -> Vec<Group> {
    let count = items.items.len();
    let mut parent: Vec<usize> = (0..count).collect();
    fn find(parent: &mut [usize], mut at: usize) -> usize {
        while parent[at] != at {
            parent[at] = parent[parent[at]];
            at = parent[at];
        }
        at
    }
    for (at, item) in items.items.iter().enumerate() {
        let Some(shape) = item.iteration() else { continue };
        for input in &item.inputs {
            if let Some(from) = direct(items, input, &shape)
                && times[from] == times[at]
                && distance(items, from, at) == 0
            {
                let (a, b) = (find(&mut parent, from), find(&mut parent, at));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    let mut groups: Vec<Group> = vec![Vec::new(); count];
    for at in 0..count {
        let root = find(&mut parent, at);
        groups[root].push(at);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// Moves folds into the group that makes their input, where one traversal serves both.
fn attach_folds(items: &Items, users: &[Vec<usize>], wanted: &[bool], groups: &mut Vec<Group>) {
    let mut member = members(items, groups);
    let mut tails: Vec<Option<Vec<usize>>> = vec![None; groups.len()];
    for at in 0..items.items.len() {
        let Work::Reduce(_, axes) = &items.items[at].work else { continue };
        let shape = items.items[at].inputs[0].window.shape;
        let Some(from) = direct(items, &items.items[at].inputs[0], &shape) else { continue };
        let group = member[from];
        if groups[group].len() >= LARGEST || tails[group].as_ref().is_some_and(|tail| tail != axes) {
            continue;
        }
        // What the group must still write to memory if this fold joins it.
        let leaves = |&user: &usize| user != at && member[user] != group;
        let stored = |&item: &usize| wanted[item] || users[item].iter().any(leaves);
        let stores = groups[group].iter().any(|item| items.items[*item].iteration().is_some() && stored(item));
        if stores && !trailing(&shape, axes) {
            continue;
        }
        tails[group] = Some(axes.clone());
        let alone = member[at];
        groups[alone].clear();
        member[at] = group;
        groups[group].push(at);
    }
    groups.retain(|group| !group.is_empty());
}

/// Whether the folded axes are the innermost ones, so that a store runs in the order of the fold. Where they are not (the
/// gradient of a bias, over batch and planes), one pass that stores and folds takes longer than two: it walks memory channel
/// by channel.
fn trailing(shape: &crate::Shape, axes: &[usize]) -> bool {
    let kept = (0..shape.rank()).filter(|axis| shape[*axis] != 1 && !axes.contains(axis)).max();
    let folded = axes.iter().filter(|&&axis| shape[axis] != 1).min();
    match (kept, folded) {
        (Some(kept), Some(&folded)) => kept < folded,
        _ => true,
    }
}

/// Cuts a group into programs of at most `largest` items. Folds then run on their own.
pub(crate) fn split(items: &Items, group: Group, largest: usize) -> Vec<Group> {
    if group.len() <= largest {
        return vec![group];
    }
    let (folds, maps): (Vec<usize>, Vec<usize>) =
        group.into_iter().partition(|&at| matches!(items.items[at].work, Work::Reduce(..)));
    let mut parts: Vec<Group> = maps.chunks(largest).map(|part| part.to_vec()).collect();
    // A fold over axes that do not trail may only follow a part without stores; on its own it is always right.
    parts.extend(folds.into_iter().map(|fold| vec![fold]));
    parts
}
