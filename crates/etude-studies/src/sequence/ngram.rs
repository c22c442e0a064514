//! An n-gram model of characters, smoothed by Witten and Bell's method (1991): what a neural language model must beat.
//!
//! How likely is `c` after the last `n−1` characters `h`? Counts answer, where there are enough; where there are few, the
//! model trusts the shorter history `h'` more. With `N(h)` characters seen after `h`, `T(h)` of them different:
//!
//! ```text
//! p(c | h) = ( N(h, c) + T(h) · p(c | h') ) / ( N(h) + T(h) )
//! ```

use std::collections::HashMap;

/// Counts after every history of up to `order − 1` symbols.
pub struct NGram {
    order: usize,
    symbols: usize,
    /// After a history: how often each symbol came.
    counts: HashMap<Vec<i64>, HashMap<i64, u32>>,
}

impl NGram {
    /// Counts `text`, a sequence of numbers below `symbols`.
    pub fn new(text: &[i64], order: usize, symbols: usize) -> NGram {
        let mut counts: HashMap<Vec<i64>, HashMap<i64, u32>> = HashMap::new();
        for at in 0..text.len() {
            for length in 0..order.min(at + 1) {
                *counts.entry(text[at - length..at].to_vec()).or_default().entry(text[at]).or_default() += 1;
            }
        }
        NGram { order, symbols, counts }
    }

    /// The probability of `next` after `before`.
    pub fn probability(&self, before: &[i64], next: i64) -> f64 {
        let mut p = 1.0 / self.symbols as f64;
        for length in 0..self.order.min(before.len() + 1) {
            let Some(after) = self.counts.get(&before[before.len() - length..]) else { break };
            let (kinds, total) = (after.len() as f64, after.values().sum::<u32>() as f64);
            p = (f64::from(after.get(&next).copied().unwrap_or(0)) + kinds * p) / (total + kinds);
        }
        p
    }

    /// The mean of `−ln p` over `text`, in nats a symbol.
    pub fn loss(&self, text: &[i64]) -> f64 {
        let surprise = |at: usize| -self.probability(&text[at.saturating_sub(self.order - 1)..at], text[at]).ln();
        (0..text.len()).map(surprise).sum::<f64>() / text.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_and_longer_histories_tell_more() {
        let text: Vec<i64> = (0..600).map(|i| [0, 1, 0, 2, 1][i % 5]).collect();
        let model = NGram::new(&text, 4, 5);
        for before in [&[][..], &[0], &[0, 1, 0], &[4, 4, 4], &[2, 2, 2]] {
            let sum: f64 = (0..5).map(|c| model.probability(before, c)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{before:?}: {sum}");
        }
        let losses = [1, 2, 4].map(|order| NGram::new(&text, order, 5).loss(&text));
        assert!(losses[0] > losses[1] && losses[1] > losses[2] && losses[2] < 0.1, "{losses:?}");
        // N(h, c) = 240, N(h) = 600, T(h) = 3, p(c | h') = 1/5.
        assert!((NGram::new(&text, 1, 5).probability(&[], 0) - (240.0 + 3.0 * 0.2) / 603.0).abs() < 1e-12);
    }
}
