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
//! A state is the last four frames of 80×80 pixels, black and white: one shows where bird and pipes are, four how the bird
//! moves. A network reads them and gives two numbers, Q of staying and Q of flapping; it learns that both sides of the
//! equation agree. Passing a pipe is worth 10, death −10, any other move 1 (a tenth of these, so that Q is about 1). Four
//! things make it work:
//!
//! * **Replay.** Moments of play are kept and learned from in random order, many times; neighbours are too much alike.
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

use super::game::{Event, Game, film, play};
use super::memory::{FRAMES, Memory};
use crate::study::{Etude, knobs};
use etude::Result;
use etude::data::random::Rng;
use etude::nn::schedule::{Cosine, Schedule};
use etude::prelude::*;
use etude::train::plot::{Chart, Colour, Images, Page};
use etude::train::{Figure, units};
use serde::{Deserialize, Serialize};

/// Two convolutions with wide strides, two dense layers; one pass gives Q of both moves.
#[derive(Module, Clone)]
pub struct QNetwork {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl QNetwork {
    /// A network for frames of `side`×`side` pixels.
    pub fn new(side: usize) -> Self {
        let small = ((side - 8) / 4 + 1 - 4) / 2 + 1;
        Self {
            conv1: Conv2d::new(FRAMES, 16, 8).stride(4).init(),
            conv2: Conv2d::new(16, 32, 4).stride(2).init(),
            fc1: Linear::new(32 * small * small, 256).init(),
            fc2: Linear::new(256, 2).init(),
        }
    }
}

impl Forward for QNetwork {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(&x.to(DType::F32)).relu(); // [N, 4, 80, 80] → [N, 16, 19, 19]
        let x = self.conv2.forward(&x).relu(); // [N, 32, 8, 8]
        let x = self.fc1.forward(&x.flatten_from(1)).relu(); // [N, 256]
        self.fc2.forward(&x) // [N, 2]: staying, flapping
    }
}

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

/// Games of a trial and of the final test.
const GAMES: u64 = 20;
/// Pipes after which a game of a trial ends.
const TRIAL: u32 = 30;
/// Moves of a film.
const FILM: usize = 120;

/// Games are numbered for each use, so that no two share their pipes.
#[derive(Clone, Copy)]
enum Use {
    Training,
    Trial,
    Test,
    Film,
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
    fn game(&self, seed: u64, purpose: Use, number: u64) -> Game {
        Game::new(Rng::keyed(&[seed, purpose as u64, number]).next_u64(), self.gap as f32)
    }

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
            let reward = match event {
                Event::Flies => 0.1,
                Event::Passes => 1.0,
                Event::Dies => -1.0,
            };
            memory.note(i, u8::from(flap), reward, event == Event::Dies);
            if game.over {
                scores.push(f64::from(game.passed));
                *game = self.game(session.seed(), Use::Training, *begun);
                *begun += 1;
            }
        }
        if !scores.is_empty() {
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            session.average(Figure::new("pipes", mean));
            session.record(&[("train/pipes", mean)])?;
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

    /// Q of both moves in each game, by what a network has seen of them so far.
    fn greedy<'n>(
        &self,
        network: &'n QNetwork,
        games: usize,
    ) -> impl FnMut(&[Game]) -> Result<Vec<[f32; 2]>> + use<'n> {
        let side = self.side;
        let mut seen = Memory::new(FRAMES + 1, games, side);
        move |games| {
            seen.see(&frames(games, side));
            let q = no_grad(|| evaluating(|| network.forward(&seen.now()))); // [games, 2]
            Ok(q.eval()?.to_vec::<f32>().chunks(2).map(|q| [q[0], q[1]]).collect())
        }
    }

    /// Pipes passed in `GAMES` greedy games.
    fn trial(&self, seed: u64, network: &QNetwork, purpose: Use, most: u32) -> Result<Vec<f64>> {
        let games: Vec<Game> = (0..GAMES).map(|number| self.game(seed, purpose, number)).collect();
        let mut greedy = self.greedy(network, games.len());
        play(games, most, |games| Ok(greedy(games)?.iter().map(|q| q[1] > q[0]).collect()))
    }

    /// One game as it is flown now: Q of both moves at each moment.
    fn fly(&self, seed: u64, network: &QNetwork) -> Result<Vec<[f32; 2]>> {
        let mut game = self.game(seed, Use::Film, 0);
        let (mut greedy, mut moves) = (self.greedy(network, 1), Vec::new());
        while moves.len() < FILM && !game.over {
            let q = greedy(std::slice::from_ref(&game))?[0];
            moves.push(q);
            game.decide(q[1] > q[0]);
        }
        Ok(moves)
    }
}

fn frames(games: &[Game], side: usize) -> Vec<Vec<u8>> {
    games.iter().map(|game| game.frame(side)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl Etude for Flappy {
    const NAME: &'static str = "flappy";
    const TITLE: &'static str = "a network learns to flap by looking at the screen";
    const SOURCE: &'static str = "Mnih et al., 2015; van Hasselt et al., 2016";
    const ROWS: &'static [&'static str] = &["R1", "R2", "R3"];
    const TEXT: &'static str = include_str!("flappy.rs");

    fn quick() -> Self {
        Self {
            steps: 5_000,
            side: 40,
            gap: 28.0,
            memory: 2_000,
            explore: 2_000,
            trial_every: 1_000,
            claim: 20.0,
            ..Self::default()
        }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let (network, seed) = (QNetwork::new(self.side), session.seed());
        let (target, best) = (network.clone(), network.clone());
        // Once the bird lives on, gradients are tiny but for rare crashes; a large ε keeps steps from growing then.
        let mut step = Adam::new(self.learning_rate).epsilon(1e-4).over(&network);
        let rate = Cosine { rate: self.learning_rate, floor: self.learning_rate / 20.0, steps: self.steps };
        session.say(format!("model   {} parameters", units::grouped(network.parameter_count() as u64)));

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
                let pipes = mean(&self.trial(seed, &network, Use::Trial, TRIAL)?);
                session.record(&[("trial/pipes", pipes)])?;
                if pipes >= world.best {
                    world.best = pipes;
                    best.copy_from(&network)?;
                }
                let moves = self.fly(seed, &network)?.iter().map(|q| q[1] > q[0]).collect();
                world.films.push((number + 1, moves));
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
        let pipes = self.trial(seed, best, Use::Test, self.longest)?;
        let others = |decide: &mut dyn FnMut(&Game) -> bool| {
            let games = (0..GAMES).map(|number| self.game(seed, Use::Test, number)).collect();
            play(games, self.longest, |games| Ok(games.iter().map(&mut *decide).collect()))
        };
        let mut chance = Rng::keyed(&[seed, u64::MAX]);
        let random = others(&mut |_| chance.chance(self.flaps))?;
        let idle = others(&mut |_| false)?;
        let told = others(&mut |game| game.below_gap() > 1.0)?;

        let mut report = Report::new();
        let title = format!("pipes passed in {GAMES} games never seen, {} at most", self.longest);
        let mut table = Table::new(title, ["player", "mean", "fewest", "most"]);
        let rows =
            [("network", &pipes), ("random", &random), ("never flaps", &idle), ("flaps below the gap's middle", &told)];
        for (name, pipes) in rows {
            let fewest = pipes.iter().copied().fold(f64::INFINITY, f64::min);
            let most = pipes.iter().copied().fold(0.0, f64::max);
            table.row([name.into(), format!("{:.1}", mean(pipes)), format!("{fewest}"), format!("{most}")]);
        }
        report.table(table);
        report.figures("test", [Figure::new("pipes", mean(&pipes)), Figure::new("random", mean(&random))]);
        report.claim(Claim::at_least("pipes on average over 20 greedy games", mean(&pipes), self.claim));

        let moves = self.fly(seed, best)?;
        self.draw_curves(session)?;
        self.draw_worth(session, &moves)?;
        let best = moves.iter().map(|q| q[1] > q[0]).collect();
        let named = |(step, moves): &(u64, Vec<bool>)| (format!("step {}", units::grouped(*step)), moves.clone());
        let early = [films.first(), films.get(films.len() / 4)].into_iter().flatten().map(named);
        let flights: Vec<_> = early.chain([("best".to_string(), best)]).collect();
        session.media().animation("game", &film(&self.game(seed, Use::Film, 0), &flights), 0.05)?;
        Ok(report)
    }

    fn draw_curves(&self, session: &Session) -> Result<()> {
        let (train, trial) = (session.curve("train/pipes")?, session.curve("trial/pipes")?);
        let (loss, q) = (session.curve("loss")?, session.curve("q")?);
        let pipes = Chart::new("Pipes a game").labels("step", "pipes");
        let pipes = pipes.noisy_line("in training, with random moves", train.0, train.1, 0.97);
        let pipes = pipes.line(format!("greedy, {TRIAL} at most"), trial.0, trial.1);
        let loss = Chart::new("Loss").labels("step", "Huber's loss").noisy_line("loss", loss.0, loss.1, 0.95);
        let worth = Chart::new("Mean Q of the moves made").labels("step", "Q").noisy_line("Q", q.0, q.1, 0.9);
        session.show("curves", Page::new(1).with(pipes).with(loss).with(worth))
    }

    /// Q of both moves over one game, and what was seen.
    fn draw_worth(&self, session: &Session, moves: &[[f32; 2]]) -> Result<()> {
        let mut game = self.game(session.seed(), Use::Film, 0);
        let moves = &moves[..moves.len().min(60)];
        let places: Vec<f64> = (0..moves.len()).map(|at| at as f64).collect();
        let line = |which: usize| moves.iter().map(|q| f64::from(q[which])).collect::<Vec<f64>>();
        let mut chart = Chart::new("Worth of both moves over a game").labels("move", "Q").size(690.0, 400.0);
        chart = chart.line("stay", places.clone(), line(0)).line("flap", places, line(1));
        let mut frames = Images::new("The game before some of these moves").columns(6).tile(100.0);
        for (at, q) in moves.iter().enumerate() {
            if at % 5 == 0 {
                let caption = format!("{at}: {}", if q[1] > q[0] { "flap" } else { "stay" });
                frames = frames.captioned(game.picture(200), caption, Colour::GREY);
            }
            if game.decide(q[1] > q[0]) == Event::Passes {
                chart = chart.mark(at as f64, "pipe");
            }
        }
        session.show("q", Page::new(1).with(chart).with(frames))
    }
}
