//! What a run shows: players beside each other, curves of the training, the worth of moves over a game, and a film.

use super::Flappy;
use super::game::{Event, film};
use super::network::QNetwork;
use super::trial::{GAMES, TRIAL, Use, flaps};
use etude::Result;
use etude::prelude::*;
use etude::train::metrics::mean;
use etude::train::plot::{Chart, Colour, Images, Page};
use etude::train::units;

impl Flappy {
    /// Pipes that players passed in the games of the final test.
    pub(super) fn table(&self, players: [(&str, &Vec<f64>); 4]) -> Table {
        let title = format!("pipes passed in {GAMES} games never seen, {} at most", self.longest);
        let mut table = Table::new(title, ["player", "mean", "fewest", "most"]);
        for (name, pipes) in players {
            let fewest = pipes.iter().copied().fold(f64::INFINITY, f64::min);
            let most = pipes.iter().copied().fold(0.0, f64::max);
            table.row([name.into(), format!("{:.1}", mean(pipes)), format!("{fewest}"), format!("{most}")]);
        }
        table
    }

    /// Curves, worth, and the film of the game as it was flown early, in the middle, and by the best network.
    pub(super) fn pictures(&self, session: &Session, best: &QNetwork, films: &[(u64, Vec<bool>)]) -> Result<()> {
        let moves = self.fly(session.seed(), best)?;
        let pipes = [("train/pipes", "in training, with random moves"), ("trial/pipes", "greedy")];
        let pipes = session.chart("Pipes a game", "pipes", pipes)?.subtitle(format!("{TRIAL} at most where greedy"));
        let loss = session.chart("Loss", "Huber's loss", [("loss", "loss")])?;
        let worth = session.chart("Mean Q of the moves made", "Q", [("q", "Q")])?;
        session.show("curves", Page::new(1).with(pipes).with(loss).with(worth))?;
        session.show("q", self.worth_over_a_game(session.seed(), &moves))?;

        let named = |(step, moves): &(u64, Vec<bool>)| (format!("step {}", units::grouped(*step)), moves.clone());
        let early = [films.first(), films.get(films.len() / 4)].into_iter().flatten().map(named);
        let last = ("best".to_string(), moves.into_iter().map(flaps).collect());
        let flights: Vec<_> = early.chain([last]).collect();
        session.media().animation("game", &film(&self.game(session.seed(), Use::Film, 0), &flights), 0.05)
    }

    /// Q of both moves over one game, and what was seen.
    fn worth_over_a_game(&self, seed: u64, moves: &[[f32; 2]]) -> Page {
        let mut game = self.game(seed, Use::Film, 0);
        let moves = &moves[..moves.len().min(60)];
        let places: Vec<f64> = (0..moves.len()).map(|at| at as f64).collect();
        let line = |which: usize| moves.iter().map(|q| f64::from(q[which])).collect::<Vec<f64>>();
        let mut chart = Chart::new("Worth of both moves over a game").labels("move", "Q").size(690.0, 400.0);
        chart = chart.line("stay", places.clone(), line(0)).line("flap", places, line(1));
        let mut frames = Images::new("The game before some of these moves").columns(6).tile(100.0);
        for (at, &q) in moves.iter().enumerate() {
            if at % 5 == 0 {
                let caption = format!("{at}: {}", if flaps(q) { "flap" } else { "stay" });
                frames = frames.captioned(game.picture(200), caption, Colour::GREY);
            }
            if game.decide(flaps(q)) == Event::Passes {
                chart = chart.mark(at as f64, "pipe");
            }
        }
        Page::new(1).with(chart).with(frames)
    }
}
