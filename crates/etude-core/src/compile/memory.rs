//! Seventh pass: which storage each result lives in, from its first writer to its last reader. Buffers that nobody else
//! holds are overwritten in place.

use super::graph::{Base, Items, Located};
use super::lower::{Draft, DraftWork};
use super::plan::{Action, KernelInput, Place, Plan, Slot, Step, TileInput};
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
    Ok(Plan { steps, roots, peak_bytes: memory.peak, slots: memory.slots, constants: items.constants.clone() })
}

struct Memory {
    /// The step that reads each result last; results that outlive the plan say `usize::MAX`.
    last_read: HashMap<Base, usize>,
    homes: HashMap<Base, usize>,
    slots: Vec<Slot>,
    /// Slots nothing lives in, that may be used again.
    free: Vec<usize>,
    live: usize,
    peak: usize,
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
        Memory { last_read, homes: HashMap::new(), slots: Vec::new(), free: Vec::new(), live: 0, peak: 0 }
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
                self.adopt(input, index, bytes, items);
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
                    self.homes[&draft.inputs[input].base]
                }
                None => self.take(meta.bytes(), outlives),
            };
            self.homes.insert(base, slot);
            slots.push(slot);
        }
        self.peak = self.peak.max(self.live);
        let (inputs, places): (Vec<Located>, Vec<Place>) =
            draft.inputs.iter().map(|input| (*input, self.input_place(input.base))).unzip();
        let action = match draft.work {
            DraftWork::Tile { program, kept, reduced, strides, scalars } => Action::Tile {
                prepared: Box::new(program.prepare()?),
                kept,
                reduced,
                inputs: inputs
                    .iter()
                    .zip(&places)
                    .zip(strides)
                    .zip(&in_place)
                    .map(|(((input, &place), strides), &in_place)| TileInput {
                        place,
                        in_place,
                        offset: input.window.offset,
                        strides,
                    })
                    .collect(),
                scalars,
            },
            DraftWork::Kernel => {
                let super::graph::Work::Kernel(source) = &items.items[draft.item].work else {
                    return Err("a kernel step without a kernel".into());
                };
                let argument = |(input, &place): (&Located, &Place)| match input.base {
                    Base::Scalar(index) => KernelInput::Scalar(index),
                    _ => KernelInput::Array(place, input.window, input.dtype),
                };
                Action::Kernel { source: source.clone(), inputs: inputs.iter().zip(&places).map(argument).collect() }
            }
        };
        // Whatever was read for the last time gives its storage back, unless an output lives in it now.
        let mut ended: Vec<Base> = draft.inputs.iter().map(|input| input.base).collect();
        ended.extend(draft.outputs.iter().map(|&(item, number)| Base::Item(item, number)));
        ended.sort_unstable();
        ended.dedup();
        for base in ended {
            let over = self.last_read.get(&base).is_none_or(|&last| last == now);
            if over
                && !taken.contains(&base)
                && let Some(&slot) = self.homes.get(&base)
            {
                self.free.push(slot);
                self.live -= self.slots[slot].bytes;
            }
        }
        let item = &items.items[draft.item];
        Ok(Step {
            action,
            outputs: slots,
            metas: draft.metas,
            name: draft.name,
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
    fn adopt(&mut self, input: &Located, index: usize, bytes: usize, items: &Items) {
        let whole = items.roots.iter().flatten().all(|place| place.base != input.base);
        debug_assert!(whole, "a donated leaf is not itself wanted");
        self.slots.push(Slot { bytes, donated: Some(index) });
        self.homes.insert(input.base, self.slots.len() - 1);
        self.live += bytes;
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
        let DraftWork::Tile { program, reduced, .. } = &draft.work else { return None };
        if !reduced.is_empty() || bytes == 0 {
            return None;
        }
        (0..draft.inputs.len()).find(|&at| {
            let input = &draft.inputs[at];
            let Some(&slot) = self.homes.get(&input.base) else { return false };
            let last = self.last_read.get(&input.base) == Some(&now);
            let once = draft.inputs.iter().filter(|other| other.base == input.base).count() == 1;
            let whole = input.window == Window::contiguous(input.window.shape);
            let own = self.slots[slot].bytes == bytes && input.dtype.size() * input.window.shape.count() == bytes;
            let same = program.inputs[at].size() == program.outputs[output].size();
            let fits = !outlives || self.slots[slot].bytes == bytes;
            last && once && whole && own && same && fits && !taken.contains(&input.base)
        })
    }

    /// A slot of at least `bytes`. Results that outlive the plan get storage of their own.
    fn take(&mut self, bytes: usize, outlives: bool) -> usize {
        if !outlives {
            let fits = |&(_, &slot): &(usize, &usize)| self.slots[slot].bytes >= bytes;
            let smallest = self.free.iter().enumerate().filter(fits).min_by_key(|(_, slot)| self.slots[**slot].bytes);
            if let Some((at, _)) = smallest.filter(|(_, slot)| self.slots[**slot].bytes <= 2 * bytes.max(4096)) {
                let slot = self.free.swap_remove(at);
                self.live += self.slots[slot].bytes;
                return slot;
            }
            // A smaller scratch slot may grow: its size is only the most it ever holds.
            let scratch = |&(_, &slot): &(usize, &usize)| {
                self.slots[slot].donated.is_none() && 2 * self.slots[slot].bytes >= bytes
            };
            let largest = self.free.iter().enumerate().filter(scratch).max_by_key(|(_, slot)| self.slots[**slot].bytes);
            if let Some((at, _)) = largest {
                let slot = self.free.swap_remove(at);
                self.slots[slot].bytes = self.slots[slot].bytes.max(bytes);
                self.live += self.slots[slot].bytes;
                return slot;
            }
        }
        self.slots.push(Slot { bytes, donated: None });
        self.live += bytes;
        self.slots.len() - 1
    }
}
