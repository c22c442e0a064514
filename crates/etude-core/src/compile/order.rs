//! The order groups run in. It is that of the program, but for one thing: what takes no more memory than it
//! gives back, by itself or with what it makes possible, runs at once. So a weight is updated as soon as its gradient is
//! there, and the gradients of a model are not all alive at once.

use super::fuse::{self, Group};
use super::graph::{Base, Items};
use super::updates::{self, Joined};
use std::collections::{BTreeSet, HashMap};

/// How many of the groups that can run are looked at for each place in the order.
const LOOK: usize = 48;

/// Orders groups so that inputs come first, and a gradient's update right behind the kernel that takes its step.
pub(crate) fn order(items: &Items, groups: Vec<Group>) -> Vec<Group> {
    let joined = updates::pair(items, groups);
    let mut state = State::new(items, &joined);
    let mut sequence = Vec::with_capacity(joined.groups.len());
    while let Some(number) = state.next() {
        sequence.push(number);
    }
    assert_eq!(sequence.len(), joined.groups.len(), "groups of a plan must not wait for each other in a circle");
    let parts = sequence.into_iter().flat_map(|number| {
        let (first, rest) = joined.groups[number].split_at(joined.lead[number]);
        [first.to_vec(), rest.to_vec()]
    });
    parts.filter(|part| !part.is_empty()).collect()
}

/// Storage that comes and goes, and the groups that still have to read it.
struct Held {
    bytes: i64,
    readers: usize,
    /// It stays after its last reader.
    stays: bool,
}

struct State {
    /// What each group reads, and what it leaves in memory.
    reads: Vec<Vec<usize>>,
    makes: Vec<i64>,
    held: Vec<Held>,
    /// Groups each group waits for, and groups that wait for it.
    waiting: Vec<usize>,
    followers: Vec<Vec<usize>>,
    /// Place in the program.
    place: Vec<(u64, usize)>,
    ready: BTreeSet<((u64, usize), usize)>,
}

impl State {
    fn new(items: &Items, joined: &Joined) -> State {
        let groups = &joined.groups;
        let member = fuse::members(items, groups);
        let mut known: HashMap<Base, usize> = HashMap::new();
        let mut held: Vec<Held> = Vec::new();
        let mut state = State {
            reads: vec![Vec::new(); groups.len()],
            makes: vec![0; groups.len()],
            held: Vec::new(),
            waiting: vec![0; groups.len()],
            followers: vec![Vec::new(); groups.len()],
            place: Vec::with_capacity(groups.len()),
            ready: BTreeSet::new(),
        };
        for (number, group) in groups.iter().enumerate() {
            let place = group[..joined.lead[number]].iter().map(|&at| (items.items[at].sequence, at)).max();
            state.place.push(place.expect("groups are not empty"));
            let mut needs = Vec::new();
            for input in group.iter().flat_map(|&at| &items.items[at].inputs) {
                let bytes = match input.base {
                    Base::Item(from, output) if member[from] != number => {
                        needs.push(member[from]);
                        items.items[from].outputs[output].bytes()
                    }
                    Base::Leaf(leaf) if items.donated[leaf] => input.window.shape.count() * input.dtype.size(),
                    _ => continue,
                };
                let at = *known.entry(input.base).or_insert_with(|| {
                    held.push(Held { bytes: bytes as i64, readers: 0, stays: false });
                    held.len() - 1
                });
                if !state.reads[number].contains(&at) {
                    state.reads[number].push(at);
                    held[at].readers += 1;
                }
            }
            needs.extend(joined.before.iter().filter(|(_, after)| *after == number).map(|(before, _)| *before));
            needs.sort_unstable();
            needs.dedup();
            state.waiting[number] = needs.len();
            needs.into_iter().for_each(|need| state.followers[need].push(number));
        }
        for place in items.roots.iter().flatten() {
            let Base::Item(item, output) = place.base else { continue };
            match known.get(&place.base) {
                Some(&at) => held[at].stays = true,
                None => state.makes[member[item]] += items.items[item].outputs[output].bytes() as i64,
            }
        }
        for (base, at) in known {
            if let Base::Item(item, _) = base {
                state.makes[member[item]] += held[at].bytes;
            }
        }
        state.held = held;
        let first = (0..groups.len()).filter(|&number| state.waiting[number] == 0);
        state.ready = first.map(|number| (state.place[number], number)).collect();
        state
    }

    /// The bytes that running `number` adds to what is alive.
    fn growth(&self, number: usize) -> i64 {
        let last = self.reads[number].iter().map(|&at| &self.held[at]).filter(|held| held.readers == 1 && !held.stays);
        self.makes[number] - last.map(|held| held.bytes).sum::<i64>()
    }

    /// The same, with the best of what can run next because of it.
    fn growth_with_follower(&self, number: usize) -> i64 {
        let next = self.followers[number].iter().filter(|&&follower| self.waiting[follower] == 1);
        let best = next.map(|&follower| self.growth(follower)).min().unwrap_or(0);
        self.growth(number) + best.min(0)
    }

    /// The group to run next.
    fn next(&mut self) -> Option<usize> {
        let free = self.ready.iter().take(LOOK).find(|(_, number)| self.growth_with_follower(*number) <= 0);
        let chosen = *free.or_else(|| self.ready.first())?;
        self.ready.remove(&chosen);
        let number = chosen.1;
        self.reads[number].iter().for_each(|&at| self.held[at].readers -= 1);
        for follower in std::mem::take(&mut self.followers[number]) {
            self.waiting[follower] -= 1;
            if self.waiting[follower] == 0 {
                self.ready.insert((self.place[follower], follower));
            }
        }
        Some(number)
    }
}
