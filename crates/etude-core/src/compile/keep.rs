//! What is kept for the way back. A result that is read soon and again much later either stays in memory
//! until then or is computed anew from what stays there anyway. Which results stay is a smallest cut: of all sets from
//! which the late readers can be served by elementwise work alone, one with the fewest bytes (Ford and Fulkerson, 1956),
//! and of those the one that leaves the least to compute. So of a GELU only its argument is kept, and of a rectified
//! batch norm nothing but the batch norm's own input.

use super::fuse::{times, users, wanted};
use super::graph::{Base, Item, Items, Located, Work};
use std::collections::{HashMap, VecDeque};

/// Steps between a result and a reader from which on the result counts as kept: more than lie between the ends of a
/// residual block.
const FAR: i32 = 12;
/// Steps between two readers that count as one moment.
const NEAR: i32 = 4;
/// Results smaller than this are kept: their bytes are not worth a group.
const SMALL: usize = 16 << 10;

/// Lets late readers of elementwise results read what is computed anew, wherever that keeps fewer bytes.
pub(crate) fn keep(items: Items) -> Items {
    let users = users(&items);
    let wanted = wanted(&items);
    let times = times(&items, &users, &wanted);
    let far = |at: usize, user: usize| times[user] - times[at] >= FAR;
    let elementwise = |at: usize| matches!(items.items[at].work, Work::Elementwise(_));
    let bytes = |at: usize| items.items[at].outputs.iter().map(|meta| meta.bytes()).sum::<usize>();
    // When a result is first read again, for those that are.
    let again: Vec<Option<i32>> = (0..items.items.len())
        .map(|at| users[at].iter().filter(|&&user| far(at, user)).map(|&user| times[user]).min())
        .collect();
    let needed: Vec<usize> = (0..items.items.len())
        .filter(|&at| elementwise(at) && again[at].is_some() && !wanted[at] && bytes(at) >= SMALL)
        .collect();
    if needed.is_empty() {
        return items;
    }
    // What a result computed anew reads must not be due much later itself: all of a long sum's terms would come back at once.
    let mut stays: Vec<bool> = (0..items.items.len()).map(|at| wanted[at]).collect();
    for &at in &needed {
        let mut stack: Vec<usize> = sources(&items.items[at]).collect();
        while let Some(from) = stack.pop() {
            match (elementwise(from), again[from]) {
                (true, None) => stack.extend(sources(&items.items[from])),
                (true, Some(time)) => stays[from] |= time >= again[at].expect("needed again") + NEAR,
                (false, _) => (),
            }
        }
    }
    let mut network = Network::default();
    let mut seen = vec![false; items.items.len()];
    let mut stack = needed.clone();
    needed.iter().filter(|&&at| !stays[at]).for_each(|&at| network.join(Network::leaving(at), Network::END));
    while let Some(at) = stack.pop() {
        if std::mem::replace(&mut seen[at], true) || stays[at] {
            continue;
        }
        // A kernel's result that is read late by others costs nothing more.
        let free = !elementwise(at) && again[at].is_some();
        if free {
            continue;
        }
        network.add(Network::entering(at), Network::leaving(at), bytes(at) as i64);
        if !elementwise(at) {
            network.join(Network::START, Network::entering(at));
            continue;
        }
        for from in sources(&items.items[at]) {
            network.join(Network::leaving(from), Network::entering(at));
            stack.push(from);
        }
    }
    let anew = network.beyond_the_cut();
    let anew: Vec<bool> = (0..items.items.len())
        .map(|at| elementwise(at) && !stays[at] && anew.contains(&Network::entering(at)))
        .collect();
    if !anew.contains(&true) {
        return items;
    }
    let late: Vec<Vec<usize>> = users
        .iter()
        .enumerate()
        .map(|(at, users)| users.iter().copied().filter(|&user| anew[at] && far(at, user)).collect())
        .collect();
    let later = meet(&items, &users, &times, &anew, &late);
    write(&items, &anew, &late, later)
}

/// The items whose results `item` reads.
fn sources(item: &Item) -> impl Iterator<Item = usize> {
    item.inputs.iter().filter_map(|input| match input.base {
        Base::Item(from, _) => Some(from),
        _ => None,
    })
}

/// Kernels that should wait for an elementwise reader of what is computed anew for both, so that one pass serves the two:
/// the gradient of a weight wants the activation, the gradient of the activation what it is made of.
fn meet(items: &Items, users: &[Vec<usize>], times: &[i32], anew: &[bool], late: &[Vec<usize>]) -> Vec<(usize, usize)> {
    let elementwise = |at: usize| items.items[at].iteration().is_some();
    // Results computed anew together: numbered by the first of them.
    let mut chain: Vec<usize> = (0..items.items.len()).collect();
    for at in 0..items.items.len() {
        if anew[at] {
            let before = sources(&items.items[at]).filter(|&from| anew[from]);
            chain[at] = before.map(|from| chain[from]).min().unwrap_or(at);
        }
    }
    let readers = late.iter().zip(&chain);
    let all: Vec<(usize, usize)> =
        readers.flat_map(|(users, &number)| users.iter().map(move |&user| (number, user))).collect();
    // Nobody waits who others wait for.
    let mut leads = vec![false; items.items.len()];
    all.iter().for_each(|&(_, user)| leads[user] = true);
    for at in (0..items.items.len()).rev() {
        leads[at] |= users[at].iter().any(|&user| leads[user]);
    }
    // The elementwise reader of each chain at each time, the last of several.
    let readers = all.iter().filter(|(_, user)| elementwise(*user));
    let at: HashMap<(usize, i32), usize> = readers.map(|&(number, user)| ((number, times[user]), user)).collect();
    let mut later = Vec::new();
    for &(number, kernel) in all.iter().filter(|(_, user)| !elementwise(*user)) {
        if users[kernel].iter().any(|&user| leads[user]) {
            continue;
        }
        let soon = (times[kernel]..times[kernel] + NEAR).rev();
        later.extend(soon.flat_map(|time| at.get(&(number, time))).next().map(|&other| (kernel, other)));
    }
    later
}

/// The items with a second one, right before its first late reader, for each result that is computed anew.
fn write(items: &Items, anew: &[bool], late: &[Vec<usize>], later: Vec<(usize, usize)>) -> Items {
    // A second item stands in the program where the first that wants it does.
    let mut sequence = vec![u64::MAX; items.items.len()];
    for at in (0..items.items.len()).rev().filter(|&at| anew[at]) {
        let first = late[at].iter().map(|&user| items.items[user].sequence).min().unwrap_or(u64::MAX);
        sequence[at] = sequence[at].min(first);
        for from in sources(&items.items[at]).filter(|&from| anew[from]) {
            sequence[from] = sequence[from].min(sequence[at]);
        }
    }
    let count = items.items.len();
    let mut writer = Writer {
        old: items,
        anew,
        sequence,
        items: Vec::with_capacity(count * 5 / 4),
        first: Vec::with_capacity(count),
        second: HashMap::new(),
    };
    for (at, item) in items.items.iter().enumerate() {
        let inputs = item.inputs.iter().map(|input| match input.base {
            Base::Item(from, _) if late[from].binary_search(&at).is_ok() => writer.again(input),
            _ => writer.moved(input),
        });
        let inputs = inputs.collect();
        writer.first.push(writer.items.len());
        writer.items.push(Item { inputs, ..item.clone() });
    }
    let roots = items.roots.iter().map(|places| places.iter().map(|place| writer.moved(place)).collect()).collect();
    let later = later.into_iter().map(|(kernel, other)| (writer.first[kernel], writer.first[other])).collect();
    Items { items: writer.items, roots, later, donated: items.donated.clone(), constants: items.constants.clone() }
}

struct Writer<'a> {
    old: &'a Items,
    anew: &'a [bool],
    sequence: Vec<u64>,
    items: Vec<Item>,
    /// Where each old item went, and where its second one is.
    first: Vec<usize>,
    second: HashMap<usize, usize>,
}

impl Writer<'_> {
    fn moved(&self, place: &Located) -> Located {
        match place.base {
            Base::Item(from, output) => Located { base: Base::Item(self.first[from], output), ..*place },
            _ => *place,
        }
    }

    /// `place` computed anew.
    fn again(&mut self, place: &Located) -> Located {
        let Base::Item(from, output) = place.base else { return *place };
        if !self.anew[from] {
            return self.moved(place);
        }
        let second = match self.second.get(&from) {
            Some(&second) => second,
            None => {
                let item = &self.old.items[from];
                let inputs = item.inputs.iter().map(|input| self.again(input)).collect();
                self.items.push(Item { inputs, sequence: self.sequence[from], ..item.clone() });
                self.second.insert(from, self.items.len() - 1);
                self.items.len() - 1
            }
        };
        Located { base: Base::Item(second, output), ..*place }
    }
}

/// A network of pipes for bytes, as large as they have to be where no size is given.
#[derive(Default)]
struct Network {
    /// Pipe `i` leads to `.0` and still takes `.1`; pipe `i ^ 1` is its way back.
    pipes: Vec<(usize, i64)>,
    from: HashMap<usize, Vec<usize>>,
}

impl Network {
    const START: usize = 0;
    const END: usize = 1;

    fn entering(item: usize) -> usize {
        2 + 2 * item
    }

    fn leaving(item: usize) -> usize {
        3 + 2 * item
    }

    fn add(&mut self, from: usize, to: usize, size: i64) {
        self.from.entry(from).or_default().push(self.pipes.len());
        self.from.entry(to).or_default().push(self.pipes.len() + 1);
        self.pipes.extend([(to, size), (from, 0)]);
    }

    fn join(&mut self, from: usize, to: usize) {
        self.add(from, to, i64::MAX / 4);
    }

    /// Fills the network, and returns the places from which the end can still be reached: what lies beyond the smallest
    /// cut that is nearest to the end.
    fn beyond_the_cut(&mut self) -> std::collections::HashSet<usize> {
        while let Some(path) = self.path() {
            let least = path.iter().map(|&pipe| self.pipes[pipe].1).min().unwrap_or(0);
            for pipe in path {
                self.pipes[pipe].1 -= least;
                self.pipes[pipe ^ 1].1 += least;
            }
        }
        let mut reached = std::collections::HashSet::from([Network::END]);
        let mut stack = vec![Network::END];
        while let Some(place) = stack.pop() {
            for &pipe in self.from.get(&place).into_iter().flatten() {
                let before = self.pipes[pipe].0;
                if self.pipes[pipe ^ 1].1 > 0 && reached.insert(before) {
                    stack.push(before);
                }
            }
        }
        reached
    }

    /// A shortest way from start to end through pipes that take something, as the pipes it leads through.
    fn path(&self) -> Option<Vec<usize>> {
        let mut by: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([Network::START]);
        while let Some(place) = queue.pop_front() {
            if place == Network::END {
                let mut path = Vec::new();
                let mut at = place;
                while at != Network::START {
                    let pipe = by[&at];
                    path.push(pipe);
                    at = self.pipes[pipe ^ 1].0;
                }
                return Some(path);
            }
            for &pipe in self.from.get(&place).into_iter().flatten() {
                let (to, left) = self.pipes[pipe];
                if left > 0 && to != Network::START && !by.contains_key(&to) {
                    by.insert(to, pipe);
                    queue.push_back(to);
                }
            }
        }
        None
    }
}
