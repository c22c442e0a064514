//! Playing without learning: games that no network has seen before, and players who always take the move they think better.
//!
//! What a player is worth is the number of pipes it passes, on average over games that begin alike for all players and were
//! never trained on. Chance plays no part in it: the better move is taken each time, and a game is a function of its number.

use super::Flappy;
use super::game::{Game, play};
use super::memory::{FRAMES, Memory};
use super::network::QNetwork;
use etude::Result;
use etude::data::random::Rng;
use etude::prelude::*;

/// Games of a trial and of the final test.
pub const GAMES: usize = 20;
/// Pipes after which a game of a trial ends.
pub const TRIAL: u32 = 30;
/// Moves of a film.
const FILM: usize = 120;

/// Games are numbered for each use, so that no two share their pipes.
#[derive(Clone, Copy)]
pub enum Use {
    /// What is learned from.
    Training,
    /// What decides which network is the best so far.
    Trial,
    /// What the claim is about.
    Test,
    /// The one game that is drawn.
    Film,
}

impl Flappy {
    /// Game `number` of a use.
    pub(super) fn game(&self, seed: u64, purpose: Use, number: u64) -> Game {
        Game::new(Rng::keyed(&[seed, purpose as u64, number]).next_u64(), self.gap as f32)
    }

    /// Pipes that are passed in each game of a use; `decide` says for all of them who flaps.
    fn pipes(
        &self,
        seed: u64,
        purpose: Use,
        most: u32,
        decide: impl FnMut(&[Game]) -> Result<Vec<bool>>,
    ) -> Result<Vec<f64>> {
        play((0..GAMES as u64).map(|number| self.game(seed, purpose, number)).collect(), most, decide)
    }

    /// Pipes a network passes in the games of a trial.
    pub(super) fn trial(&self, seed: u64, network: &QNetwork) -> Result<Vec<f64>> {
        self.pipes(seed, Use::Trial, TRIAL, self.greedy(network))
    }

    /// Pipes a player passes in the games of the final test.
    pub(super) fn test(&self, seed: u64, decide: impl FnMut(&[Game]) -> Result<Vec<bool>>) -> Result<Vec<f64>> {
        self.pipes(seed, Use::Test, self.longest, decide)
    }

    /// A player of [`GAMES`] games who takes the better move.
    pub(super) fn greedy<'n>(&self, network: &'n QNetwork) -> impl FnMut(&[Game]) -> Result<Vec<bool>> + use<'n> {
        let mut worth = self.worth(network, GAMES);
        move |games| Ok(worth(games)?.into_iter().map(flaps).collect())
    }

    /// Q of both moves in each game, by what a network has seen of them so far.
    fn worth<'n>(&self, network: &'n QNetwork, games: usize) -> impl FnMut(&[Game]) -> Result<Vec<[f32; 2]>> + use<'n> {
        let side = self.side;
        let mut seen = Memory::new(FRAMES + 1, games, side);
        move |games| {
            seen.see(&frames(games, side));
            let q = no_grad(|| evaluating(|| network.forward(&seen.now()))); // [games, 2]
            Ok(q.eval()?.to_vec::<f32>().chunks(2).map(|q| [q[0], q[1]]).collect())
        }
    }

    /// The film's game as it is flown now: Q of both moves at each moment.
    pub(super) fn fly(&self, seed: u64, network: &QNetwork) -> Result<Vec<[f32; 2]>> {
        let mut game = self.game(seed, Use::Film, 0);
        let (mut worth, mut moves) = (self.worth(network, 1), Vec::new());
        while moves.len() < FILM && !game.over {
            let q = worth(std::slice::from_ref(&game))?[0];
            moves.push(q);
            game.decide(flaps(q));
        }
        Ok(moves)
    }
}

/// Whether flapping is the better move.
pub fn flaps(q: [f32; 2]) -> bool {
    q[1] > q[0]
}

/// What the network sees of each game.
pub fn frames(games: &[Game], side: usize) -> Vec<Vec<u8>> {
    games.iter().map(|game| game.frame(side)).collect()
}
