//! A network learns to flap by looking at the screen (Mnih et al., 2015).
//!
//! Nobody says which moves are right: there are only rewards, and they come late. A bird that hits a pipe made its mistake
//! a second before. What is learned is the worth of a move, `Q(s, a)`: all rewards to come after doing `a` in state `s`,
//! each counting γ times the one before it. Whoever knows Q plays by taking the better move. Bellman's equation says what
//! Q must be, namely the reward of this move and γ times the worth of the best move after it:
//!
//! ```text
//! Q(s, a) = E[ r + γ · max_b Q(s′, b) ]
//! ```
//!
//! The game is `flappy/game.rs`. A state is the last four frames of 80×80 pixels, black and white: one shows where bird and
//! pipes are, four how the bird moves. A network reads them and gives two numbers, Q of staying and Q of flapping; it
//! learns that both sides of the equation agree. Passing a pipe is worth 10, death −10, any other move 1 (a tenth of these,
//! so that Q is about 1). Four things make it work:
//!
//! * **Replay** (`flappy/memory.rs`). Moments of play are kept and learned from in random order, many times; neighbours are
//!   too much alike.
//! * **A target network.** The right side is computed by a copy of the network that stands still for some hundred steps:
//!   otherwise the target runs away from the one who follows it.
//! * **ε-greedy play.** With probability ε the move is random, else the better one. ε falls from 1 to a small number. A
//!   random move flaps only one time in five, else the bird would stick to the ceiling and never see a gap.
//! * **Several rewards at once.** The label looks n moves ahead: `r₁ + γr₂ + … + γⁿ⁻¹rₙ + γⁿ · max_b Q(sₙ, b)`, and ends
//!   with the game. n = 1 is Mnih's; n beyond the longest game is the whole sequence of rewards up to the game's end. The
//!   cause of a crash lies a few moves back, which a few moves ahead reach at once (Sutton, 1988).
//!
//! The maximum of noisy numbers is too high on average. Double DQN (van Hasselt et al., 2016) lets the network that
//! learns choose the move and its copy judge it: `Q′(s′, argmax_b Q(s′, b))`.
//!
//! Several birds play at once with one network, which costs hardly more than one. The film shows the same pipes as they
//! were flown early, in the middle and at the end of the training.

mod game;
mod memory;
mod network;
mod report;
mod trial;

use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::data::random::Rng;
use etude::nn::schedule::{Cosine, Schedule};
use etude::prelude::*;
use etude::train::Figure;
use etude::train::metrics::mean;
use game::{Event, Game};
use memory::{FRAMES, Memory};
use network::QNetwork;
use serde::{Deserialize, Serialize};
use trial::{Use, flaps, frames};

knobs! {
    /// The knobs.
    pub struct Flappy {
        /// Training steps: every bird moves once, then one batch is learned. [1..100000000]
        steps: u64 = 30_000,
        /// Birds that play at once. [1..256]
        birds: usize = 8,
        /// Moments of play a step learns from. [1..4096]
        batch: usize = 32,
        /// Moments of each bird that are remembered. [64..1000000]
        memory: usize = 4_000,
        /// Steps before learning begins. [8..1000000]
        watch: u64 = 250,
        /// Pixels a frame is wide and high. [36..160]
        side: usize = 80,
        /// Height of a gap, of 80; the bird has 5. [12..50]
        gap: f64 = 20.0,
        /// γ: what a reward counts for one move later. [0..1]
        discount: f64 = 0.97,
        /// n: rewards the label looks ahead; then the target network's word is taken. [1..60]
        ahead: usize = 5,
        /// Steps until the target network is copied anew. [1..]
        target_every: u64 = 300,
        /// The learning network chooses the move that the target network judges.
        double: bool = true,
        /// ε at the end; it begins with 1 and falls along a line. [0..1]
        epsilon: f64 = 0.02,
        /// Steps until ε is there. [1..]
        explore: u64 = 6_000,
        /// The probability that a random move flaps. [0..1]
        flaps: f64 = 0.2,
        /// Adam's step size at the start; it falls to a twentieth along half a cosine. [0..]
        learning_rate: f64 = 5e-4,
        /// Steps between two trials of 20 games; the best network is kept. [1..]
        trial_every: u64 = 2_000,
        /// Pipes after which a game of the final test ends. [1..100000]
        longest: u32 = 100,
        /// Fewest pipes claimed, on average over 20 games never seen. [0..]
        claim: f64 = 20.0,
    }
}

/// What lasts from step to step besides the networks.
#[derive(Serialize, Deserialize)]
struct World {
    games: Vec<Game>,
    /// Games begun.
    begun: u64,
    memory: Memory,
    /// The best trial so far.
    best: f64,
    /// The moves of the film's game, as flown at these steps.
    films: Vec<(u64, Vec<bool>)>,
}

impl Flappy {
    fn epsilon(&self, step: u64) -> f64 {
        let share = (step as f64 / self.explore as f64).min(1.0);
        1.0 + (self.epsilon - 1.0) * share
    }

    /// Every bird moves once.
    fn play(&self, session: &Session, network: &QNetwork, world: &mut World, epsilon: f64) -> Result<()> {
        let World { games, begun, memory, .. } = world;
        memory.see(&frames(games, self.side));
        let q = no_grad(|| network.forward(&memory.now())).to_vec::<f32>(); // [birds, 2]
        let draws = uniform([2, self.birds]).to_vec::<f32>();
        let mut scores = Vec::new();
        for (i, game) in games.iter_mut().enumerate() {
            let (random, which) = (f64::from(draws[i]) < epsilon, f64::from(draws[self.birds + i]));
            let flap = if random { which < self.flaps } else { q[2 * i + 1] > q[2 * i] };
            let event = game.decide(flap);
            memory.note(i, u8::from(flap), event.reward(), event == Event::Dies);
            if game.over {
                scores.push(f64::from(game.passed));
                *game = self.game(session.seed(), Use::Training, *begun);
                *begun += 1;
            }
        }
        if !scores.is_empty() {
            session.average(Figure::new("pipes", mean(&scores)));
            session.record(&[("train/pipes", mean(&scores))])?;
        }
        Ok(())
    }

    /// One step on a batch from the memory; `None` while there is too little.
    fn learn(
        &self,
        networks: [&QNetwork; 2],
        step: &mut Optimizer,
        memory: &Memory,
    ) -> Result<Option<(Tensor, Tensor)>> {
        let [network, target] = networks;
        let draws = uniform([self.batch]).to_vec::<f32>();
        let Some(sample) = memory.sample(&draws, self.ahead, self.discount as f32) else { return Ok(None) };
        let label = no_grad(|| {
            let judged = target.forward(&sample.later); // [N, 2]
            let choice = if self.double { network.forward(&sample.later) } else { judged.clone() };
            let best = judged.gather(1, &choice.argmax(1).reshape([self.batch, 1])); // [N, 1]
            &sample.returns + &sample.discounts * best
        });
        let q = training(|| network.forward(&sample.states)).gather(1, &sample.actions); // [N, 1]
        let loss = huber(&q, &label, 1.0);
        step.minimise(&loss)?;
        Ok(Some((loss, q.mean(..))))
    }
}

impl Etude for Flappy {
    const NAME: &'static str = "flappy";
    const TITLE: &'static str = "a network learns to flap by looking at the screen";
    const SOURCE: &'static str = "Mnih et al., 2015; van Hasselt et al., 2016";
    const ROWS: &'static [&'static str] = &["R1", "R2", "R3"];
    const TEXT: &'static str = include_str!("flappy.rs");
    const PARTS: &'static [Part] =
        parts!["flappy/network.rs", "flappy/game.rs", "flappy/memory.rs", "flappy/trial.rs", "flappy/report.rs"];

    fn quick() -> Self {
        let game = Self { side: 40, gap: 28.0, ..Self::default() };
        Self { steps: 5_000, memory: 2_000, explore: 2_000, trial_every: 1_000, ..game }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let (network, seed) = (QNetwork::new(self.side), session.seed());
        let (target, best) = (network.clone(), network.clone());
        // Once the bird lives on, gradients are tiny but for rare crashes; a large ε keeps steps from growing then.
        let mut step = Adam::new(self.learning_rate).epsilon(1e-4).over(&network);
        let rate = Cosine::down(self.learning_rate, 20.0, self.steps);
        session.introduce(&network);

        session.keep("network", &network);
        session.keep("target", &target);
        session.keep("best", &best);
        session.keep("step", &step);
        let games = (0..self.birds as u64).map(|number| self.game(seed, Use::Training, number)).collect();
        let memory = Memory::new(self.memory, self.birds, self.side);
        let world = World { games, begun: self.birds as u64, memory, best: -1.0, films: Vec::new() };
        let world = session.value("world", world);
        for number in session.steps(self.steps) {
            let number = number?;
            let world = &mut *world.borrow_mut();
            self.play(session, &network, world, self.epsilon(number))?;
            if number < self.watch {
                continue;
            }
            step.set_learning_rate(rate.rate(number));
            let learned = self.learn([&network, &target], &mut step, &world.memory)?;
            if let Some((loss, q)) = learned.filter(|_| number % 10 == 0) {
                session.log(&[("loss", &loss), ("q", &q)])?;
            }
            if (number + 1) % self.target_every == 0 {
                target.copy_from(&network)?;
            }
            if (number + 1) % self.trial_every == 0 || number + 1 == self.steps {
                let pipes = mean(&self.trial(seed, &network)?);
                session.record(&[("trial/pipes", pipes)])?;
                if pipes >= world.best {
                    world.best = pipes;
                    best.copy_from(&network)?;
                }
                world.films.push((number + 1, self.fly(seed, &network)?.into_iter().map(flaps).collect()));
            }
        }
        let films = std::mem::take(&mut world.borrow_mut().films);
        self.report(session, &best, films)
    }

    fn summaries(&self) -> Vec<nn::Summary> {
        vec![QNetwork::new(self.side).summary([self.batch, FRAMES, self.side, self.side])]
    }
}

impl Flappy {
    fn report(&self, session: &Session, best: &QNetwork, films: Vec<(u64, Vec<bool>)>) -> Result<Report> {
        let seed = session.seed();
        let pipes = self.test(seed, self.greedy(best))?;
        let mut chance = Rng::keyed(&[seed, u64::MAX]);
        let random = self.test(seed, |games: &[Game]| Ok(games.iter().map(|_| chance.chance(self.flaps)).collect()))?;
        let idle = self.test(seed, |games: &[Game]| Ok(vec![false; games.len()]))?;
        let told = self.test(seed, |games: &[Game]| Ok(games.iter().map(|game| game.below_gap() > 1.0).collect()))?;

        let mut report = Report::new();
        report.table(self.table([
            ("network", &pipes),
            ("random", &random),
            ("never flaps", &idle),
            ("flaps below the gap's middle", &told),
        ]));
        report.figures("test", [("pipes", mean(&pipes)), ("random", mean(&random))]);
        report.claim(Claim::at_least("pipes on average over 20 greedy games", mean(&pipes), self.claim));
        self.pictures(session, best, &films)?;
        Ok(report)
    }
}
