//! Random numbers for data: a function of the key alone, never of threads or of the order of use.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the
//! n-th number is a mixing function of `start + n · gamma`. The start is mixed from the key's words one after the
//! other, so that neighbouring seeds, epochs and examples give unrelated numbers.

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection of 64 bits in which every bit of the input reaches every bit of the output.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small generator of random numbers; not for secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// SplitMix64 from `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    /// A generator of its own for a key of several words, such as `[seed, epoch, index]`.
    pub fn keyed(key: &[u64]) -> Rng {
        let state = key.iter().fold(key.len() as u64, |state, &word| {
            mix(state.wrapping_add(GAMMA)).wrapping_add(mix(word.wrapping_add(GAMMA)).rotate_left(17))
        });
        Rng { state: mix(state) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in `0.0..1.0`, in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `low..high` (`low` when they are equal).
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let value = f64::from(low) + self.unit() * (f64::from(high) - f64::from(low));
        (value as f32).clamp(low, high)
    }

    /// Uniform in `0..bound`, without bias (Lemire, 2019). Panics when `bound` is 0, as an empty range does.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a random number below 0 was asked for");
        let bound = bound as u64;
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as usize;
            }
        }
    }

    /// True with the given probability: never at 0, always at 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Normally distributed with mean 0 and deviation 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.unit()).cos()) as f32
    }

    /// Puts `items` in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }

    /// The numbers `0..count` in a random order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The published reference values for seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423u64];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
    }

    #[test]
    fn keys_give_unrelated_streams() {
        let mut seen = std::collections::HashSet::new();
        for a in 0..20 {
            for b in 0..20 {
                for c in 0..20 {
                    assert!(seen.insert(Rng::keyed(&[a, b, c]).next_u64()), "the key {a} {b} {c} repeats another");
                }
            }
        }
        assert_ne!(Rng::keyed(&[1, 2]), Rng::keyed(&[2, 1]));
        assert_ne!(Rng::keyed(&[0]), Rng::keyed(&[0, 0]));
        // The first numbers of consecutive keys are uniform: the mean of 10,000 lies within five standard errors.
        let mean: f64 = (0..10_000).map(|index| Rng::keyed(&[1, 0, index]).unit()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0f64).sqrt() / 100.0, "mean {mean}");
    }

    #[test]
    fn numbers_keep_their_ranges_and_moments() {
        let mut rng = Rng::new(3);
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[rng.below(7)] += 1;
        }
        for count in counts {
            assert!((count as f64 - 10_000.0).abs() < 5.0 * 100.0, "{counts:?}");
        }
        let normals: Vec<f64> = (0..40_000).map(|_| f64::from(rng.normal())).collect();
        let mean = normals.iter().sum::<f64>() / 40_000.0;
        let square = normals.iter().map(|x| x * x).sum::<f64>() / 40_000.0;
        assert!(mean.abs() < 5.0 / 200.0 && (square - 1.0).abs() < 5.0 * 2f64.sqrt() / 200.0, "{mean} {square}");
        for _ in 0..1000 {
            assert!((-2.0..=3.0).contains(&rng.uniform(-2.0, 3.0)));
        }
        assert_eq!(rng.uniform(1.5, 1.5), 1.5);
        assert!(!rng.chance(0.0) && rng.chance(1.0));
    }

    #[test]
    fn a_permutation_holds_everything_once() {
        let mut order = Rng::new(9).permutation(1000);
        assert_ne!(order[..5], [0, 1, 2, 3, 4]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(at, &value)| at == value));
    }
}
