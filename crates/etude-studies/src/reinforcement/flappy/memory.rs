//! Replay memory (Lin, 1992): what players saw and did, kept to be learned from more than once and out of order.
//!
//! Frames are black and white, so a frame of 80×80 takes 800 bytes, and each is kept once: the stack of the last four is
//! put together when it is read. All players act at the same moments; moment `t` is slot `t mod slots`.

use etude::prelude::*;
use serde::{Deserialize, Serialize};

/// Frames that make a state: one shows where things are, several how they move.
pub const FRAMES: usize = 4;

/// The eight pixels of every byte.
static PIXELS: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut i = 0;
    while i < 256 * 8 {
        all[i / 8][i % 8] = ((i / 8) >> (i % 8) & 1) as u8;
        i += 1;
    }
    all
};

/// The last moments of several players.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    slots: usize,
    players: usize,
    side: usize,
    /// Moments seen so far, kept or forgotten.
    moments: usize,
    /// Eight pixels a byte: `[slots, players, side² / 8]`.
    frames: Vec<u8>,
    /// The rest `[slots, players]`: frames of the same game before this one, as far as a stack reaches back,
    ages: Vec<u8>,
    /// what was done,
    actions: Vec<u8>,
    /// what it brought,
    rewards: Vec<f32>,
    /// and whether the game was over then.
    ends: Vec<bool>,
}

/// Some moments of the memory, as a learner wants them.
pub struct Sample {
    /// `[N, 4, side, side]`, zeros and ones.
    pub states: Tensor,
    /// What was done, `[N, 1]`.
    pub actions: Tensor,
    /// The next rewards, each discounted, up to the game's end: `[N, 1]`.
    pub returns: Tensor,
    /// The states after those rewards, as `states`.
    pub later: Tensor,
    /// What a reward after them counts for; 0 when the game was over: `[N, 1]`.
    pub discounts: Tensor,
}

impl Memory {
    /// An empty memory of `slots` moments, more than [`FRAMES`].
    pub fn new(slots: usize, players: usize, side: usize) -> Memory {
        let all = slots * players;
        Memory {
            slots,
            players,
            side,
            moments: 0,
            frames: vec![0; all * (side * side).div_ceil(8)],
            ages: vec![0; all],
            actions: vec![0; all],
            rewards: vec![0.0; all],
            ends: vec![true; all],
        }
    }

    fn place(&self, moment: usize, player: usize) -> usize {
        moment % self.slots * self.players + player
    }

    /// What every player sees now, pixels of 0 and 1. A game that was over has begun again.
    pub fn see(&mut self, frames: &[Vec<u8>]) {
        let bytes = (self.side * self.side).div_ceil(8);
        for (player, frame) in frames.iter().enumerate() {
            let now = self.place(self.moments, player);
            let before = self.moments.checked_sub(1).map(|moment| self.place(moment, player));
            let goes_on = before.filter(|&before| !self.ends[before]);
            self.ages[now] = goes_on.map_or(0, |before| (self.ages[before] + 1).min(FRAMES as u8 - 1));
            self.ends[now] = false;
            for (byte, pixels) in self.frames[now * bytes..][..bytes].iter_mut().zip(frame.chunks(8)) {
                *byte = pixels.iter().enumerate().map(|(bit, pixel)| pixel << bit).sum();
            }
        }
        self.moments += 1;
    }

    /// What `player` did at what it saw last, and what came of it.
    pub fn note(&mut self, player: usize, action: u8, reward: f32, end: bool) {
        let now = self.place(self.moments - 1, player);
        (self.actions[now], self.rewards[now], self.ends[now]) = (action, reward, end);
    }

    /// Writes the stack at a moment, oldest frame first; before a game's beginning stands its first frame.
    fn stack(&self, (moment, player): (usize, usize), pixels: &mut [u8]) {
        let size = self.side * self.side;
        let bytes = size.div_ceil(8);
        let age = usize::from(self.ages[self.place(moment, player)]);
        for (pixels, back) in pixels.chunks_exact_mut(size).zip((0..FRAMES).rev()) {
            let place = self.place(moment - back.min(age), player);
            for (eight, byte) in pixels.chunks_mut(8).zip(&self.frames[place * bytes..]) {
                eight.copy_from_slice(&PIXELS[usize::from(*byte)][..eight.len()]);
            }
        }
    }

    fn states(&self, moments: &[(usize, usize)]) -> Tensor {
        let size = FRAMES * self.side * self.side;
        let mut pixels = vec![0; moments.len() * size];
        moments.iter().zip(pixels.chunks_exact_mut(size)).for_each(|(moment, pixels)| self.stack(*moment, pixels));
        Tensor::from_slice(&pixels, [moments.len(), FRAMES, self.side, self.side])
    }

    /// Every player's state now: `[players, 4, side, side]`.
    pub fn now(&self) -> Tensor {
        self.states(&(0..self.players).map(|player| (self.moments - 1, player)).collect::<Vec<_>>())
    }

    /// As many moments as there are `draws` in 0 … 1; each looks `ahead` rewards ahead, or to the game's end, and a
    /// reward counts `discount` times the one before it. `None` while too little is kept.
    pub fn sample(&self, draws: &[f32], ahead: usize, discount: f32) -> Option<Sample> {
        // The oldest frames are only good for stacks; the newest moments do not know yet what comes of them.
        let first = if self.moments > self.slots { self.moments - self.slots + FRAMES - 1 } else { 0 };
        let choices = self.moments.checked_sub(first + ahead)? * self.players;
        let (mut actions, mut returns, mut discounts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut here, mut later) = (Vec::new(), Vec::new());
        for draw in draws {
            let choice = ((f64::from(*draw) * choices as f64) as usize).min(choices.checked_sub(1)?);
            let (moment, player) = (first + choice / self.players, choice % self.players);
            let (mut sum, mut factor) = (0.0, 1.0);
            for k in 0..ahead {
                let place = self.place(moment + k, player);
                sum += factor * self.rewards[place];
                factor *= discount;
                if self.ends[place] {
                    factor = 0.0;
                    break;
                }
            }
            here.push((moment, player));
            later.push((moment + ahead, player));
            actions.push(i64::from(self.actions[self.place(moment, player)]));
            returns.push(sum);
            discounts.push(factor);
        }
        let column = |values: &[f32]| Tensor::from_slice(values, [values.len(), 1]);
        Some(Sample {
            states: self.states(&here),
            actions: Tensor::from_slice(&actions, [actions.len(), 1]),
            returns: column(&returns),
            later: self.states(&later),
            discounts: column(&discounts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two players; frame `t` of player `p` is the bits of `10·p + t`; player 0's game ends at moment 5, player 1's never.
    fn filled(moments: usize) -> Memory {
        let mut memory = Memory::new(8, 2, 4);
        for t in 0..moments {
            let bits = |number: usize| (0..16).map(|bit| (number >> bit & 1) as u8).collect::<Vec<u8>>();
            memory.see(&[bits(t), bits(10 + t)]);
            (0..2).for_each(|p| memory.note(p, (t % 2) as u8, t as f32, p == 0 && t == 5));
        }
        memory
    }

    fn numbers(states: &Tensor) -> Vec<Vec<usize>> {
        let pixels = states.to_vec::<u8>();
        let frame = |bits: &[u8]| bits.iter().enumerate().map(|(bit, &pixel)| usize::from(pixel) << bit).sum();
        pixels.chunks(64).map(|stack| stack.chunks(16).map(frame).collect()).collect()
    }

    #[test]
    fn stacks_begin_with_the_game() {
        assert_eq!(numbers(&filled(1).now()), [[0, 0, 0, 0], [10, 10, 10, 10]]);
        assert_eq!(numbers(&filled(3).now()), [[0, 0, 1, 2], [10, 10, 11, 12]]);
        assert_eq!(numbers(&filled(6).now()), [[2, 3, 4, 5], [12, 13, 14, 15]]);
        assert_eq!(numbers(&filled(8).now()), [[6, 6, 6, 7], [14, 15, 16, 17]]);
        assert_eq!(numbers(&filled(100).now())[0], [96, 97, 98, 99]);
    }

    #[test]
    fn returns_stop_at_the_games_end() {
        let memory = filled(7);
        // Moments 0 to 4 know what comes in two steps; a draw in the middle of (4, player 0), and of player 1.
        let sample = memory.sample(&[0.85, 0.95], 2, 0.5).unwrap();
        assert_eq!(numbers(&sample.states), [[1, 2, 3, 4], [11, 12, 13, 14]]);
        assert_eq!(sample.actions.to_vec::<i64>(), [0, 0]);
        assert_eq!(sample.returns.to_vec::<f32>(), [4.0 + 2.5, 4.0 + 2.5]);
        assert_eq!(sample.discounts.to_vec::<f32>(), [0.0, 0.25]);
        assert_eq!(numbers(&sample.later)[1], [13, 14, 15, 16]);
        assert!(filled(2).sample(&[0.5], 2, 0.5).is_none() && filled(3).sample(&[0.5], 2, 0.5).is_some());
    }

    #[test]
    fn what_was_overwritten_is_never_read() {
        let memory = filled(20);
        // Moments 12 to 19 are kept: stacks from 15 on, and one step ahead up to 18.
        let draws: Vec<f32> = (0..100).map(|i| i as f32 / 99.0).collect();
        let sample = memory.sample(&draws, 1, 0.9).unwrap();
        for stack in numbers(&sample.states) {
            let newest = stack[3];
            assert_eq!(stack, [newest - 3, newest - 2, newest - 1, newest]);
            assert!((15..=18).contains(&newest) || (25..=28).contains(&newest), "{stack:?}");
        }
    }
}
