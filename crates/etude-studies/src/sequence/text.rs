//! Text as numbers: what models of characters read.

use super::ngram::NGram;
use etude::prelude::*;
use etude::train::units::grouped;

/// A text in two parts, as numbers, and the characters the numbers stand for.
pub struct Characters {
    /// Number `i` stands for `characters[i]`.
    pub characters: Vec<char>,
    /// What a model is trained on.
    pub train: Vec<i64>,
    /// What it never sees.
    pub valid: Vec<i64>,
}

impl Characters {
    /// Numbers for every character of the two parts, in the order of their code points.
    pub fn new(train: &str, valid: &str) -> Characters {
        let mut characters: Vec<char> = train.chars().chain(valid.chars()).collect();
        characters.sort_unstable();
        characters.dedup();
        let mut text = Characters { characters, train: Vec::new(), valid: Vec::new() };
        (text.train, text.valid) = (text.numbers(train), text.numbers(valid));
        text
    }

    /// Prints how much there is to read.
    pub fn introduce(&self, session: &Session) {
        let [train, valid] = [&self.train, &self.valid].map(|part| grouped(part.len() as u64));
        session.say(format!("text    {train} characters, {valid} for validation, {} different", self.vocabulary()));
    }

    /// How many different characters there are.
    pub fn vocabulary(&self) -> usize {
        self.characters.len()
    }

    /// `text` as numbers; every character must occur in the parts.
    pub fn numbers(&self, text: &str) -> Vec<i64> {
        let number = |c: char| self.characters.binary_search(&c).expect("a character of the text") as i64;
        text.chars().map(number).collect()
    }

    /// Numbers as text.
    pub fn letters(&self, numbers: &[i64]) -> String {
        numbers.iter().map(|&i| self.characters[i as usize]).collect()
    }

    /// Stretches of the training part from random places, and what follows each character: see [`stretches`].
    pub fn draw(&self, batch: usize, length: usize) -> (Tensor, Tensor) {
        let last = self.train.len() - length - 1;
        let starts = (uniform([batch]).to(DType::F64) * last as f64).to_vec::<f64>();
        stretches(&self.train, starts.iter().map(|&start| start as usize), length)
    }

    /// A table of losses on the part never seen, n-gram models of some orders before the model `name`, and the lowest of
    /// the n-grams' losses in nats.
    pub fn losses(&self, name: &str, loss: f64) -> (Table, f64) {
        let mut table = Table::new("loss on text never seen", ["model", "nats a character", "bits"]);
        let row = |name: String, loss: f64| [name, format!("{loss:.3}"), format!("{:.3}", loss / 2f64.ln())];
        let mut lowest = f64::INFINITY;
        for order in [1, 2, 4, 5, 6, 8] {
            let loss = NGram::new(&self.train, order, self.vocabulary()).loss(&self.valid);
            table.row(row(format!("{order}-gram"), loss));
            lowest = lowest.min(loss);
        }
        table.row(row(name.into(), loss));
        (table, lowest)
    }
}

/// Stretches of `text` that begin at `starts`, `[B, T]`, and the same stretches one character later: what is read, and what
/// is to be said ("Hell" → "ello").
pub fn stretches(text: &[i64], starts: impl Iterator<Item = usize> + Clone, length: usize) -> (Tensor, Tensor) {
    let from = |shift: usize| -> Tensor {
        let rows: Vec<i64> = starts.clone().flat_map(|start| &text[start + shift..][..length]).copied().collect();
        Tensor::from_slice(&rows, [rows.len() / length, length])
    };
    (from(0), from(1))
}

/// The mean of `−ln p(next)`, in nats a character, for logits `[B, T, vocabulary]` and what followed, `[B, T]`.
pub fn surprise(logits: &Tensor, next: &Tensor) -> Tensor {
    cross_entropy(&logits.reshape([next.count(), logits.size(2)]), &next.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_of_the_text_and_one_character_apart() {
        let text = Characters::new("hello world, hello words", "low");
        assert_eq!(text.letters(&text.numbers("hold")), "hold");
        let (x, y) = text.draw(5, 4);
        let (x, y) = (x.to_vec::<i64>(), y.to_vec::<i64>());
        for (x, y) in x.chunks(4).zip(y.chunks(4)) {
            assert_eq!(x[1..], y[..3]);
            let both = text.letters(&[x, &y[3..]].concat());
            assert!("hello world, hello words".contains(&both), "{both}");
        }
    }
}
