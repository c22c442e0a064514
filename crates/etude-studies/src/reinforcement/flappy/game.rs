//! A small flapping game: a bird falls, a flap lifts it, pipes with gaps come from the right.
//!
//! The world is 80 units wide and high whatever the size it is drawn at, and a game is a pure function of its seed and of
//! the decisions taken: pipe `k` has its gap where `(seed, k)` says, so that two players can be given the same pipes and
//! a game can be played again for a film.

use etude::Result;
use etude::data::random::Rng;
use etude::train::plot::{Align, Canvas, Colour, Picture, Rect, Weight};
use serde::{Deserialize, Serialize};

/// The world's width and height; the last eight units are ground.
const WORLD: f32 = 80.0;
const GROUND: f32 = 72.0;
/// The bird's left edge and size.
const LEFT: f32 = 16.0;
const WIDTH: f32 = 6.0;
const HEIGHT: f32 = 5.0;
const PIPE: f32 = 10.0;
/// From one pipe to the next.
const SPACING: f32 = 40.0;
/// Gaps keep this far from ceiling and ground.
const MARGIN: f32 = 8.0;
/// Units a tick squared, units a tick; a flap carries the bird eight units up and back in twenty ticks.
const GRAVITY: f32 = 0.16;
const FLAP: f32 = -1.6;
const FASTEST: f32 = 2.4;

/// Ticks between two decisions: the bird flaps at the first of them, if at all; the world moves one unit a tick.
pub const TICKS: u32 = 4;

/// What a pixel shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thing {
    /// Nothing.
    Sky,
    /// Below everything.
    Ground,
    /// An obstacle.
    Pipe,
    /// The rim of an obstacle.
    Rim,
    /// The player.
    Bird,
    /// Its eye.
    Eye,
    /// Its beak.
    Beak,
}

/// What came of a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The bird flies on.
    Flies,
    /// It left a pipe behind.
    Passes,
    /// It hit a pipe or the ground: the game is over.
    Dies,
}

impl Event {
    /// What it is worth: the notes' 1, 10 and −10, a tenth of each so that Q is about 1.
    pub fn reward(self) -> f32 {
        match self {
            Event::Flies => 0.1,
            Event::Passes => 1.0,
            Event::Dies => -1.0,
        }
    }
}

/// One game.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Game {
    seed: u64,
    gap: f32,
    ticks: u32,
    /// The bird's upper edge.
    top: f32,
    speed: f32,
    /// Pipes behind the bird.
    pub passed: u32,
    /// Whether it hit something.
    pub over: bool,
}

impl Game {
    /// A new game; gaps are `gap` units high.
    pub fn new(seed: u64, gap: f32) -> Game {
        let top = (GROUND - HEIGHT) / 2.0;
        Game { seed, gap, ticks: 0, top, speed: 0.0, passed: 0, over: false }
    }

    /// The left edge of pipe `k`.
    fn pipe(&self, k: u32) -> f32 {
        WORLD + SPACING * k as f32 - self.ticks as f32
    }

    /// The upper edge of the gap of pipe `k`.
    fn opening(&self, k: u32) -> f32 {
        Rng::keyed(&[self.seed, u64::from(k)]).uniform(MARGIN, GROUND - MARGIN - self.gap)
    }

    /// Takes a decision; nothing happens in a game that is over.
    pub fn decide(&mut self, flap: bool) -> Event {
        let before = self.passed;
        for tick in 0..TICKS {
            self.tick(flap && tick == 0);
        }
        match (self.over, self.passed > before) {
            (true, _) => Event::Dies,
            (false, true) => Event::Passes,
            (false, false) => Event::Flies,
        }
    }

    /// One tick.
    pub fn tick(&mut self, flap: bool) {
        if self.over {
            return;
        }
        self.speed = if flap { FLAP } else { (self.speed + GRAVITY).min(FASTEST) };
        self.top += self.speed;
        // The ceiling only stops the bird.
        if self.top < 0.0 {
            (self.top, self.speed) = (0.0, 0.0);
        }
        self.ticks += 1;
        let left = self.pipe(self.passed);
        let beside = left < LEFT + WIDTH && left + PIPE > LEFT;
        let opening = self.opening(self.passed);
        let hit = beside && (self.top < opening || self.top + HEIGHT > opening + self.gap);
        self.over = hit || self.top + HEIGHT > GROUND;
        self.passed += u32::from(!self.over && left + PIPE <= LEFT);
    }

    /// How far the bird's middle is below the middle of the next gap. Networks do not see this number; rules may.
    pub fn below_gap(&self) -> f32 {
        self.top + HEIGHT / 2.0 - self.opening(self.passed) - self.gap / 2.0
    }

    /// What is where, `side`×`side` pixels row by row.
    pub fn draw(&self, side: usize) -> Vec<Thing> {
        // From the pipe before the next one to the last one in sight.
        let pipes: Vec<(f32, f32)> = (self.passed.saturating_sub(1)..self.passed + 3)
            .map(|k| (self.pipe(k), self.opening(k)))
            .filter(|(left, _)| *left < WORLD + 1.0)
            .collect();
        let thing = |x: f32, y: f32| {
            let bird = self.bird(x, y);
            let ground = || (y >= GROUND).then_some(Thing::Ground);
            let pipe = || pipes.iter().find_map(|&(left, top)| self.part(x - left, y, top));
            bird.or_else(ground).or_else(pipe).unwrap_or(Thing::Sky)
        };
        let place = |i: usize| (i as f32 + 0.5) * (WORLD / side as f32);
        (0..side * side).map(|i| thing(place(i % side), place(i / side))).collect()
    }

    /// What of the bird is at this place.
    fn bird(&self, x: f32, y: f32) -> Option<Thing> {
        // From its middle, in halves of its size.
        let across = (x - LEFT) / (WIDTH / 2.0) - 1.0;
        let down = (y - self.top) / (HEIGHT / 2.0) - 1.0;
        if across.abs() > 1.25 || down.abs() > 1.0 {
            return None;
        }
        let (right, over) = (across - 0.45, down + 0.4);
        let round = across * across * across * across + down * down * down * down < 1.0;
        match () {
            () if right * right + over * over < 0.07 => Some(Thing::Eye),
            () if across > 0.5 && (0.0..0.5).contains(&down) => Some(Thing::Beak),
            () => round.then_some(Thing::Bird),
        }
    }

    /// What of a pipe with its gap from `top` on is `x` right of its left edge.
    fn part(&self, x: f32, y: f32, top: f32) -> Option<Thing> {
        let inside = y >= top && y < top + self.gap;
        let rim = y >= top - 3.0 && y < top + self.gap + 3.0;
        (!inside && (0.0..PIPE).contains(&x)).then_some(if rim { Thing::Rim } else { Thing::Pipe })
    }

    /// What the network sees: 1 for bird and pipes, 0 elsewhere.
    pub fn frame(&self, side: usize) -> Vec<u8> {
        let seen = |thing: Thing| u8::from(!matches!(thing, Thing::Sky | Thing::Ground));
        self.draw(side).into_iter().map(seen).collect()
    }

    /// What people see.
    pub fn picture(&self, side: usize) -> Picture {
        let colour = |thing: Thing| match thing {
            Thing::Sky => Colour(112, 197, 206),
            Thing::Ground => Colour(222, 216, 149),
            Thing::Pipe => Colour(115, 191, 46),
            Thing::Rim => Colour(84, 140, 34),
            Thing::Bird if self.over => Colour(190, 170, 150),
            Thing::Bird => Colour(250, 204, 40),
            Thing::Eye => Colour(40, 40, 40),
            Thing::Beak => Colour(240, 110, 40),
        };
        let colours = self.draw(side).into_iter().map(colour);
        Picture::from_rgb(side, side, colours.flat_map(|c| [c.0, c.1, c.2]).collect())
    }
}

/// Plays games side by side until each is over or has passed `most` pipes; `decide` says for all of them who flaps. Gives
/// the pipes passed.
pub fn play(mut games: Vec<Game>, most: u32, mut decide: impl FnMut(&[Game]) -> Result<Vec<bool>>) -> Result<Vec<f64>> {
    while games.iter().any(|game| !game.over && game.passed < most) {
        let flaps = decide(&games)?;
        for (game, flap) in games.iter_mut().zip(flaps).filter(|(game, _)| game.passed < most) {
            game.decide(flap);
        }
    }
    Ok(games.iter().map(|game| f64::from(game.passed)).collect())
}

/// Flights through the same game side by side, each under its name, played again from its decisions: a picture for every
/// second tick.
pub fn film(start: &Game, flights: &[(String, Vec<bool>)]) -> Vec<Picture> {
    // Units of two pixels.
    const SIDE: f32 = 80.0;
    const STEP: f32 = SIDE + 4.0;
    let mut games = vec![start.clone(); flights.len()];
    let mut pictures = Vec::new();
    for at in 0..flights.iter().map(|(_, flaps)| flaps.len()).max().unwrap_or(0) {
        for tick in 0..TICKS {
            for (game, (_, flaps)) in games.iter_mut().zip(flights) {
                game.tick(tick == 0 && flaps.get(at) == Some(&true));
            }
            if tick % 2 == 0 {
                continue;
            }
            let mut sheet = Canvas::new(STEP * flights.len() as f32 + 4.0, SIDE + 18.0);
            for (i, (game, (name, _))) in games.iter().zip(flights).enumerate() {
                let left = 4.0 + STEP * i as f32;
                sheet.picture(Rect::new(left, 4.0, SIDE, SIDE), &game.picture(2 * SIDE as usize));
                let text = format!("{name}: {}", game.passed);
                sheet.text((left + SIDE / 2.0, SIDE + 14.0), Align::Middle, &text, 8.0, Weight::Regular, Colour::INK);
            }
            pictures.push(sheet.into_picture());
        }
    }
    pictures
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether some decisions keep the bird alive for this long.
    fn lives(game: &Game, decisions: usize) -> bool {
        decisions == 0
            || [false, true].into_iter().any(|flap| {
                let mut next = game.clone();
                next.decide(flap) != Event::Dies && lives(&next, decisions - 1)
            })
    }

    /// A player that looks some decisions ahead.
    fn steady(seed: u64, decisions: usize) -> Game {
        let mut game = Game::new(seed, 20.0);
        for _ in 0..decisions {
            let mut fallen = game.clone();
            let falls = fallen.decide(false) != Event::Dies && lives(&fallen, 20);
            game.decide(!falls);
        }
        game
    }

    #[test]
    fn a_game_is_its_seed_and_its_decisions() {
        assert_eq!(steady(7, 200), steady(7, 200));
        assert_ne!(steady(7, 200), steady(8, 200));
    }

    #[test]
    fn it_can_be_won_and_is_lost_by_doing_nothing() {
        for seed in 0..10 {
            let game = steady(seed, 300);
            assert!(game.passed >= 28, "seed {seed}: {game:?}");
            let mut idle = Game::new(seed, 20.0);
            assert!((0..10).any(|_| idle.decide(false) == Event::Dies) && idle.passed == 0);
            let mut eager = Game::new(seed, 20.0);
            (0..100).for_each(|_| {
                eager.decide(true);
            });
            assert!(eager.over && eager.passed == 0, "the ceiling holds the bird until a pipe comes");
        }
    }

    #[test]
    fn frames_show_where_things_are() {
        for side in [40, 80, 84] {
            let frame = Game::new(1, 20.0).frame(side);
            assert_eq!(frame.len(), side * side);
            // The first pipe is just out of sight: only the bird is seen, at its size.
            let share = frame.iter().map(|&v| f32::from(v)).sum::<f32>() / frame.len() as f32;
            assert!((0.003..0.006).contains(&share), "{side}: {share}");
        }
    }
}
