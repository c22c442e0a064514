//! Which storage each result lives in, from its first writer to its last reader. Buffers that nobody else
//! holds are overwritten in place.

use super::graph::{Base, Items, Located};
use super::lower::{Draft, DraftUpdate, DraftWork};
use super::plan::{Action, Behind, Home, KernelInput, Place, Plan, RowsProgram, Slot, Step, TileInput};
use crate::Window;
use std::collections::HashMap;

/// Decides storage and writes the plan.
pub(crate) fn place(items: &Items, drafts: Vec<Draft>) -> Result<Plan, String> {
    let mut memory = Memory::new(items, &drafts);
    let mut steps = Vec::with_capacity(drafts.len());
    for (now, draft) in drafts.into_iter().enumerate() {
        steps.push(memory.step(items, now, draft)?);
    }
    let root = |place: &Located| (memory.place_of(place.base), place.window);
    let roots = items.roots.iter().map(|places| places.iter().map(root).collect()).collect();
    let arena = memory.pack();
    let own = memory.slots.iter().filter(|slot| slot.home == Home::Own).map(|slot| slot.bytes);
    let peak_bytes = arena + own.sum::<usize>();
    Ok(Plan { steps, roots, arena, peak_bytes, slots: memory.slots, constants: items.constants.clone(), tables: None })
}

struct Memory {
    /// The step that reads each result last; results that outlive the plan say `usize::MAX`.
    last_read: HashMap<Base, usize>,
    homes: HashMap<Base, usize>,
    slots: Vec<Slot>,
    /// The first and the last step that each slot must be there for.
    lives: Vec<(usize, usize)>,
}

impl Memory {
    fn new(items: &Items, drafts: &[Draft]) -> Memory {
        let mut last_read: HashMap<Base, usize> = HashMap::new();
        for (now, draft) in drafts.iter().enumerate() {
            draft.inputs.iter().for_each(|input| {
                last_read.insert(input.base, now);
            });
        }
        for place in items.roots.iter().flatten() {
            last_read.insert(place.base, usize::MAX);
        }
        Memory { last_read, homes: HashMap::new(), slots: Vec::new(), lives: Vec::new() }
    }

    fn place_of(&self, base: Base) -> Place {
        match (base, self.homes.get(&base)) {
            (_, Some(&slot)) => Place::Slot(slot),
            (Base::Leaf(index), None) => Place::Leaf(index),
            _ => unreachable!("a result is placed before it is read"),
        }
    }

    fn step(&mut self, items: &Items, now: usize, draft: Draft) -> Result<Step, String> {
        // Data given away lives in a slot from its first reader on: its buffer leaves the list of leaves before any step
        // runs. The last reader may overwrite it.
        for input in &draft.inputs {
            if let Base::Leaf(index) = input.base
                && items.donated[index]
                && !self.homes.contains_key(&input.base)
            {
                let bytes = input.window.shape.count() * input.dtype.size();
                self.adopt(input, index, bytes, items, now);
            }
        }
        let mut in_place = vec![None; draft.inputs.len()];
        let mut slots = Vec::with_capacity(draft.outputs.len());
        let mut taken: Vec<Base> = Vec::new();
        for (output, (&(item, number), meta)) in draft.outputs.iter().zip(&draft.metas).enumerate() {
            let base = Base::Item(item, number);
            let outlives = self.last_read.get(&base) == Some(&usize::MAX);
            let reuse = self.overwritable(&draft, now, output, meta.bytes(), outlives, &taken);
            let slot = match reuse {
                Some(input) => {
                    in_place[input] = Some(output);
                    taken.push(draft.inputs[input].base);
                    let slot = self.homes[&draft.inputs[input].base];
                    if outlives && let Home::Arena(_) = self.slots[slot].home {
                        self.slots[slot].home = Home::Own;
                    }
                    slot
                }
                None => self.take(meta.bytes(), outlives, now),
            };
            self.homes.insert(base, slot);
            slots.push(slot);
        }
        let (inputs, places): (Vec<Located>, Vec<Place>) =
            draft.inputs.iter().map(|input| (*input, self.input_place(input.base))).unzip();
        let own = draft.own_inputs();
        let tile_input = |at: usize, strides: Vec<isize>| {
            let offset = inputs[at].window.offset;
            TileInput { place: places[at], in_place: in_place[at], offset, strides }
        };
        let action = match draft.work {
            DraftWork::Tile { program, kept, reduced, strides, scalars } => Action::Tile {
                prepared: Box::new(program.prepare()?),
                kept,
                reduced,
                inputs: strides.into_iter().enumerate().map(|(at, strides)| tile_input(at, strides)).collect(),
                scalars,
            },
            DraftWork::Kernel { update } => {
                let super::graph::Work::Kernel(source) = &items.items[draft.item].work else {
                    return Err("a kernel step without a kernel".into());
                };
                let argument = |(input, &place): (&Located, &Place)| match input.base {
                    Base::Scalar(index) => KernelInput::Scalar(index),
                    _ => KernelInput::Array(place, input.window, input.dtype),
                };
                let behind = match update {
                    None => Behind::Nothing,
                    Some(DraftUpdate { program, shape: [rows, columns], scalars }) => {
                        let beside = (own..inputs.len()).map(|at| tile_input(at, vec![columns as isize, 1])).collect();
                        let prepared = Box::new(program.prepare()?);
                        Behind::Update(Box::new(RowsProgram { prepared, rows, columns, inputs: beside, scalars }))
                    }
                };
                let inputs = inputs.iter().zip(&places).take(own).map(argument).collect();
                Action::Kernel { source: source.clone(), inputs, behind }
            }
        };
        let known = match &action {
            Action::Tile { prepared, .. } => prepared.known().map(String::from),
            Action::Kernel { .. } => None,
        };
        // Whatever was read for the last time gives its storage back, unless an output lives in it now.
        let mut ended: Vec<Base> = draft.inputs.iter().map(|input| input.base).collect();
        ended.extend(draft.outputs.iter().map(|&(item, number)| Base::Item(item, number)));
        ended.sort_unstable();
        ended.dedup();
        let mut frees = Vec::new();
        for base in ended {
            let over = self.last_read.get(&base).is_none_or(|&last| last == now);
            if over
                && !taken.contains(&base)
                && let Some(&slot) = self.homes.get(&base)
            {
                self.lives[slot].1 = now;
                frees.push(slot);
            }
        }
        let item = &items.items[draft.item];
        Ok(Step {
            action,
            outputs: slots,
            frees,
            metas: draft.metas,
            name: known.unwrap_or(draft.name),
            location: item.location,
            scope: item.scope.clone(),
        })
    }

    fn input_place(&self, base: Base) -> Place {
        match base {
            Base::Scalar(index) => Place::Leaf(index), // never read: scalars are passed by value
            base => self.place_of(base),
        }
    }

    /// A donated leaf's buffer becomes a slot.
    fn adopt(&mut self, input: &Located, index: usize, bytes: usize, items: &Items, now: usize) {
        let whole = items.roots.iter().flatten().all(|place| place.base != input.base);
        debug_assert!(whole, "a donated leaf is not itself wanted");
        self.slots.push(Slot { bytes, home: Home::Donated(index) });
        self.lives.push((now, usize::MAX));
        self.homes.insert(input.base, self.slots.len() - 1);
    }

    /// An input of a tile program whose storage output number `output` may overwrite: read here for the last time, whole,
    /// through one window only, and of the same size.
    fn overwritable(
        &self,
        draft: &Draft,
        now: usize,
        output: usize,
        bytes: usize,
        outlives: bool,
        taken: &[Base],
    ) -> Option<usize> {
        let first = match &draft.work {
            DraftWork::Tile { reduced, .. } if reduced.is_empty() && bytes > 0 => 0,
            DraftWork::Kernel { update: Some(_) } => draft.own_inputs(),
            _ => return None,
        };
        let can = |&at: &usize| {
            let input = &draft.inputs[at];
            let Some(&slot) = self.homes.get(&input.base) else { return false };
            let last = self.last_read.get(&input.base) == Some(&now);
            let once = draft.inputs.iter().filter(|other| other.base == input.base).count() == 1;
            let whole = input.window == Window::contiguous(input.window.shape);
            let own = self.slots[slot].bytes == bytes && input.dtype.size() * input.window.shape.count() == bytes;
            let same = input.dtype.size() == draft.metas[output].dtype.size();
            last && once && whole && own && same && !taken.contains(&input.base)
        };
        // What outlives the plan had best live in storage that was there before: a weight in the place of the weight.
        let stays = |&at: &usize| !matches!(self.slots[self.homes[&draft.inputs[at].base]].home, Home::Arena(_));
        let mut all = (first..draft.inputs.len()).filter(can);
        let first = all.clone().next();
        if outlives { all.find(stays).or(first) } else { first }
    }

    /// A new slot. Results that outlive the plan get storage of their own.
    fn take(&mut self, bytes: usize, outlives: bool, now: usize) -> usize {
        self.slots.push(Slot { bytes, home: if outlives { Home::Own } else { Home::Arena(0) } });
        self.lives.push((now, usize::MAX));
        self.slots.len() - 1
    }

    /// Gives every slot of the arena its place and returns the arena's size: the largest first, each as low as those
    /// that live at the same time allow (Pisarchyk and Lee, 2020).
    fn pack(&mut self) -> usize {
        let mut wanting: Vec<usize> =
            (0..self.slots.len()).filter(|&slot| matches!(self.slots[slot].home, Home::Arena(_))).collect();
        wanting.sort_by_key(|&slot| (std::cmp::Reverse(self.slots[slot].bytes), slot));
        // Placed slots by offset: offset, end, slot.
        let mut placed: Vec<(usize, usize, usize)> = Vec::with_capacity(wanting.len());
        let mut size = 0;
        for slot in wanting {
            let (bytes, (from, to)) = (self.slots[slot].bytes.next_multiple_of(64), self.lives[slot]);
            let mut offset = 0;
            for &(start, end, other) in &placed {
                let (other_from, other_to) = self.lives[other];
                if from > other_to || other_from > to {
                    continue;
                }
                if start >= offset + bytes {
                    break;
                }
                offset = offset.max(end);
            }
            self.slots[slot].home = Home::Arena(offset);
            size = size.max(offset + bytes);
            let at = placed.partition_point(|&(start, ..)| start < offset);
            placed.insert(at, (offset, offset + bytes, slot));
        }
        size
    }
}
