//! The thread's random generator: a seed and a count of draws. Every draw is a pure function of the two (Philox,
//! Salmon et al., 2011), so that neither threads nor scheduling nor evaluation order change a number.

use std::cell::Cell;

thread_local! {
    static GENERATOR: Cell<Generator> = const { Cell::new(Generator { seed: 0, draws: 0 }) };
}

/// The whole state of a generator: what a checkpoint keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generator {
    /// The seed.
    pub seed: u64,
    /// How many tensors were drawn since.
    pub draws: u64,
}

/// Starts this thread's generator again from `seed`.
pub fn seed(seed: u64) {
    GENERATOR.set(Generator { seed, draws: 0 });
}

/// This thread's generator, to be put back later with [`restore`].
pub fn generator() -> Generator {
    GENERATOR.get()
}

/// Puts a generator back where [`generator`] found it.
pub fn restore(generator: Generator) {
    GENERATOR.set(generator);
}

/// Seed and stream number of the next draw.
pub(crate) fn next_stream() -> (u64, u64) {
    let Generator { seed, draws } = GENERATOR.get();
    GENERATOR.set(Generator { seed, draws: draws + 1 });
    (seed, draws)
}
