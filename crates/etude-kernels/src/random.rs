//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
//!
//! Every number is a function of seed, stream and position alone, so any part can be made on any thread. Words are made
//! in groups of 32, that is 8 blocks of 4 words: word `p` of a stream is word `p / 8 % 4` of the block whose counter is
//! `8·(p / 32) + p % 8`. In this order 8 blocks are computed side by side and stored without being shuffled.
//! Nothing here uses fused multiply-add, so the numbers are also the same on every processor.

use crate::threads::parallel_chunks;
use crate::{DType, Float};
use bytemuck::Pod;

/// Which random numbers: the user's seed, and a counter that each drawing operation gets a value of its own from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The key of the cipher.
    pub seed: u64,
    /// The upper half of the cipher's counter; the lower half counts blocks.
    pub stream: u64,
}

/// Random words, uniform over all of `u32`.
pub fn bits(key: Key, out: &mut [u32]) {
    fill::<_, WORDS, Bits>(key, out);
}

/// Uniform numbers in [0, 1): multiples of 2⁻²⁴ for f32, of 2⁻⁵³ for f64.
pub fn uniform<T: Float>(key: Key, out: &mut [T]) {
    (T::floats().random_uniform)(key, out)
}

/// The body of [`uniform`], compiled once for each type in this crate.
pub(crate) fn uniform_body<T: Float>(key: Key, out: &mut [T]) {
    if T::DTYPE == DType::F32 {
        fill::<f32, WORDS, Uniform>(key, bytemuck::cast_slice_mut(out));
    } else {
        fill::<f64, DOUBLES, Uniform>(key, bytemuck::cast_slice_mut(out));
    }
}

/// Standard normal numbers, by Box and Muller's transformation of two uniform numbers into two normal ones.
///
/// Largest magnitude: √(−2 ln 2⁻³¹) ≈ 6.6 for f32, √(−2 ln 2⁻⁵³) ≈ 8.6 for f64.
pub fn normal<T: Float>(key: Key, out: &mut [T]) {
    (T::floats().random_normal)(key, out)
}

/// The body of [`normal`], compiled once for each type in this crate.
pub(crate) fn normal_body<T: Float>(key: Key, out: &mut [T]) {
    if T::DTYPE == DType::F32 {
        fill::<f32, WORDS, Normal>(key, bytemuck::cast_slice_mut(out));
    } else {
        fill::<f64, DOUBLES, Normal>(key, bytemuck::cast_slice_mut(out));
    }
}

/// A random order of `0..out.len()`, each as likely as any other: Fisher and Yates' shuffle with unbiased draws.
pub fn permutation(key: Key, out: &mut [i64]) {
    out.iter_mut().enumerate().for_each(|(i, value)| *value = i as i64);
    let mut draws = Draws { key, next: 0, words: [[0; LANES]; 4] };
    for i in (1..out.len()).rev() {
        out.swap(i, draws.below(i as u64 + 1) as usize);
    }
}

/// Blocks that are computed side by side, words of so many blocks, and doubles made of these.
const LANES: usize = 8;
const WORDS: usize = 4 * LANES;
const DOUBLES: usize = 2 * LANES;
/// Groups a task makes.
const TASK: usize = 512;
/// 2⁻⁵³.
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

/// The words of 8 neighbouring blocks: word `w` of block `b` is at `[w][b]`.
type Words = [[u32; LANES]; 4];

/// The multipliers of a round, and what each half of the key grows by from round to round.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const GROWTH: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The counters of the 8 blocks of one group.
#[inline(always)]
fn counters(key: Key, group: u64) -> Words {
    let mut state = [[0; LANES], [0; LANES], [key.stream as u32; LANES], [(key.stream >> 32) as u32; LANES]];
    for j in 0..LANES {
        let block = group * LANES as u64 + j as u64;
        (state[0][j], state[1][j]) = (block as u32, (block >> 32) as u32);
    }
    state
}

/// Philox4x32 with ten rounds on 8 counters.
fn philox(mut state: Words, seed: u64) -> Words {
    let mut keys = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        for j in 0..LANES {
            let first = state[0][j] as u64 * MULTIPLIERS[0] as u64;
            let second = state[2][j] as u64 * MULTIPLIERS[1] as u64;
            let (one, three) = (state[1][j], state[3][j]);
            state[0][j] = (second >> 32) as u32 ^ one ^ keys[0];
            state[1][j] = second as u32;
            state[2][j] = (first >> 32) as u32 ^ three ^ keys[1];
            state[3][j] = first as u32;
        }
        keys = [keys[0].wrapping_add(GROWTH[0]), keys[1].wrapping_add(GROWTH[1])];
    }
    state
}

/// [`philox`] with the 8 counters side by side in vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn philox_avx2(state: Words, seed: u64) -> Words {
    use std::arch::x86_64::*;
    // Low and high words of eight products: vectors multiply their even words only, so the odd ones are moved there.
    // Shuffles, because more units do them than shifts.
    let multiply = |words: __m256i, by: u32| {
        let by = _mm256_set1_epi32(by as i32);
        let even = _mm256_mul_epu32(words, by);
        let odd = _mm256_mul_epu32(_mm256_shuffle_epi32::<0b11_11_01_01>(words), by);
        let low = _mm256_blend_epi32::<0b1010_1010>(even, _mm256_shuffle_epi32::<0b10_10_00_00>(odd));
        let high = _mm256_blend_epi32::<0b1010_1010>(_mm256_shuffle_epi32::<0b11_11_01_01>(even), odd);
        (low, high)
    };
    let xor = |a, b, key: u32| _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_set1_epi32(key as i32));
    // SAFETY: each has eight words.
    let [mut a, mut b, mut c, mut d] =
        [0, 1, 2, 3].map(|word: usize| unsafe { _mm256_loadu_si256(state[word].as_ptr().cast()) });
    let mut keys = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let (first_low, first_high) = multiply(a, MULTIPLIERS[0]);
        let (second_low, second_high) = multiply(c, MULTIPLIERS[1]);
        (a, b) = (xor(second_high, b, keys[0]), second_low);
        (c, d) = (xor(first_high, d, keys[1]), first_low);
        keys = [keys[0].wrapping_add(GROWTH[0]), keys[1].wrapping_add(GROWTH[1])];
    }
    let mut out = [[0; LANES]; 4];
    for (lanes, word) in out.iter_mut().zip([a, b, c, d]) {
        // SAFETY: `lanes` has eight words.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), word) };
    }
    out
}

/// Fills `out` with numbers of kind `K`, `N` from each group of words.
fn fill<T: Pod + Send, const N: usize, K: Kind<T, N>>(key: Key, out: &mut [T]) {
    parallel_chunks(out, TASK * N, |task, piece| {
        let first = (task * TASK) as u64;
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { groups_avx2::<T, N, K>(key, first, piece) };
            return;
        }
        groups::<T, N, K>(key, first, piece);
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn groups_avx2<T: Pod, const N: usize, K: Kind<T, N>>(key: Key, first: u64, out: &mut [T]) {
    // The loop of `groups`, twice because a closure would be compiled without AVX2.
    for (group, values) in out.chunks_mut(N).enumerate() {
        let words = philox_avx2(counters(key, first + group as u64), key.seed);
        put::<T, N, K>(&words, values);
    }
}

fn groups<T: Pod, const N: usize, K: Kind<T, N>>(key: Key, first: u64, out: &mut [T]) {
    for (group, values) in out.chunks_mut(N).enumerate() {
        let words = philox(counters(key, first + group as u64), key.seed);
        put::<T, N, K>(&words, values);
    }
}

/// Writes a group's numbers, or as many of them as there is room for.
#[inline(always)]
fn put<T: Pod, const N: usize, K: Kind<T, N>>(words: &Words, out: &mut [T]) {
    if let Ok(out) = out.try_into() {
        K::make(words, out);
    } else {
        let mut all = [T::zeroed(); N];
        K::make(words, &mut all);
        out.copy_from_slice(&all[..out.len()]);
    }
}

/// A kind of random numbers: how `N` of them come from a group of words. `make` is always inlined, so that it is compiled
/// for the instruction set of its caller.
trait Kind<T, const N: usize> {
    fn make(words: &Words, out: &mut [T; N]);
}

struct Bits;
struct Uniform;
struct Normal;

impl Kind<u32, WORDS> for Bits {
    #[inline(always)]
    fn make(words: &Words, out: &mut [u32; WORDS]) {
        out.copy_from_slice(words.as_flattened());
    }
}

impl Kind<f32, WORDS> for Uniform {
    #[inline(always)]
    fn make(words: &Words, out: &mut [f32; WORDS]) {
        let words = words.as_flattened();
        for p in 0..WORDS {
            // Through i32, which vector units convert from.
            out[p] = (words[p] >> 8) as i32 as f32 * (1.0 / (1 << 24) as f32);
        }
    }
}

impl Kind<f64, DOUBLES> for Uniform {
    #[inline(always)]
    fn make(words: &Words, out: &mut [f64; DOUBLES]) {
        for j in 0..LANES {
            (out[j], out[LANES + j]) = (long(words, 0, j) as f64 * UNIT, long(words, 2, j) as f64 * UNIT);
        }
    }
}

impl Kind<f32, WORDS> for Normal {
    #[inline(always)]
    fn make(words: &Words, out: &mut [f32; WORDS]) {
        for (pair, out) in words.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<DOUBLES>().0) {
            let (first, second) = out.split_at_mut(LANES);
            for j in 0..LANES {
                (first[j], second[j]) = box_muller(pair[0][j], pair[1][j]);
            }
        }
    }
}

impl Kind<f64, DOUBLES> for Normal {
    #[inline(always)]
    fn make(words: &Words, out: &mut [f64; DOUBLES]) {
        for j in 0..LANES {
            // One more than uniform: in (0, 1], where the logarithm is finite.
            let radius = (-2.0 * ((long(words, 0, j) + 1) as f64 * UNIT).ln()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * (long(words, 2, j) as f64 * UNIT)).sin_cos();
            (out[j], out[LANES + j]) = (radius * cosine, radius * sine);
        }
    }
}

/// The upper 53 of the 64 bits that words `w` and `w + 1` of block `j` make.
#[inline(always)]
fn long(words: &Words, w: usize, j: usize) -> u64 {
    ((words[w][j] as u64) << 32 | words[w + 1][j] as u64) >> 11
}

/// Two independent normal numbers from two random words: radius √(−2 ln u) and a uniform angle. No branches, so that
/// loops over it are vectorised.
#[inline(always)]
fn box_muller(radius: u32, angle: u32) -> (f32, f32) {
    // In (0, 1]: 31 bits, because vector units convert signed integers only.
    let uniform = ((radius >> 1) as i32 as f32 + 1.0) * (1.0 / (1u32 << 31) as f32);
    // uniform = m·2ᵉ with m in [√½, √2); ln m = 2 artanh s with s = (m − 1)/(m + 1), |s| < 0.172, so that the first term
    // left out of the series is below 10⁻⁹ of the sum.
    const HALF_ROOT: i32 = 0x3F35_04F3;
    let exponent = (uniform.to_bits() as i32 - HALF_ROOT) >> 23;
    let m = f32::from_bits((uniform.to_bits() as i32 - (exponent << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0)))));
    let length = (-2.0 * (exponent as f32 * std::f32::consts::LN_2 + series)).sqrt();
    // The angle is a quarter turn's number and a rest of at most an eighth turn, where Taylor series are short.
    let quarter = angle.wrapping_add(1 << 29) >> 30;
    let rest = angle.wrapping_sub(quarter << 30) as i32 as f32 * (std::f32::consts::FRAC_PI_2 / (1 << 30) as f32);
    let q = rest * rest;
    let sine = rest * (1.0 - q * (1.0 / 6.0 - q * (1.0 / 120.0 - q * (1.0 / 5040.0 - q * (1.0 / 362_880.0)))));
    let cosine = 1.0 - q * (0.5 - q * (1.0 / 24.0 - q * (1.0 / 720.0 - q * (1.0 / 40_320.0 - q / 3_628_800.0))));
    let (x, y) = if quarter & 1 == 0 { (cosine, sine) } else { (sine, cosine) };
    let x = f32::from_bits(x.to_bits() ^ (quarter.wrapping_add(1) & 2) << 30);
    let y = f32::from_bits(y.to_bits() ^ (quarter & 2) << 30);
    (length * x, length * y)
}

/// One draw after another from a stream, 64 bits each.
struct Draws {
    key: Key,
    next: usize,
    words: Words,
}

impl Draws {
    fn draw(&mut self) -> u64 {
        let at = self.next % DOUBLES;
        if at == 0 {
            self.words = philox(counters(self.key, (self.next / DOUBLES) as u64), self.key.seed);
        }
        self.next += 1;
        let (w, j) = (at / LANES * 2, at % LANES);
        (self.words[w][j] as u64) << 32 | self.words[w + 1][j] as u64
    }

    /// A whole number below `bound`, each equally likely (Lemire, "Fast random integer generation in an interval", 2019).
    fn below(&mut self, bound: u64) -> u64 {
        // 2⁶⁴ mod bound: so many of the products' low halves would be hit once too often.
        let surplus = bound.wrapping_neg() % bound;
        loop {
            let product = self.draw() as u128 * bound as u128;
            if product as u64 >= surplus {
                return (product >> 64) as u64;
            }
        }
    }
}

/// What the tests of this crate share.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::threads::set_threads;
    use std::sync::Mutex;

    /// Normal numbers for a test.
    pub fn normals(seed: u64, count: usize) -> Vec<f64> {
        let mut out = vec![0.0; count];
        normal(Key { seed, stream: 0 }, &mut out);
        out
    }

    /// The same numbers in f32.
    pub fn normals_f32(seed: u64, count: usize) -> Vec<f32> {
        normals(seed, count).into_iter().map(|v| v as f32).collect()
    }

    /// Runs `work` on 1, 2 and 5 threads, asserts that the bits are the same, and returns them.
    pub fn on_any_threads<T: Pod>(mut work: impl FnMut() -> Vec<T>) -> Vec<T> {
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
        let mut results = [1, 2, 5].map(|count| {
            set_threads(count);
            work()
        });
        set_threads(0);
        let bytes = |values: &[T]| bytemuck::cast_slice::<T, u8>(values).to_vec();
        assert!(bytes(&results[0]) == bytes(&results[1]) && bytes(&results[0]) == bytes(&results[2]));
        std::mem::take(&mut results[0])
    }
}

#[cfg(test)]
mod tests {
    use super::testing::on_any_threads;
    use super::*;

    /// One block by the portable loop.
    fn block(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
        let state = counter.map(|word| [word; LANES]);
        philox(state, (key[1] as u64) << 32 | key[0] as u64).map(|lanes| lanes[LANES - 1])
    }

    #[test]
    fn known_answers() {
        assert_eq!(block([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(block([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let pi = block([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]);
        assert_eq!(pi, [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn a_word_depends_on_seed_stream_and_position_alone() {
        let key = Key { seed: 0x1234_5678_9ABC_DEF0, stream: 0xFEDC_BA98_7654_3210 };
        let long = on_any_threads(|| {
            let mut out = vec![0; 50_021];
            bits(key, &mut out);
            out
        });
        for p in [0, 1, 7, 8, 31, 32, 1000, 50_020] {
            let number = 8 * (p / 32) + p % 8;
            let words = block([number as u32, 0, 0x7654_3210, 0xFEDC_BA98], [0x9ABC_DEF0, 0x1234_5678]);
            assert_eq!(long[p], words[p / 8 % 4]);
        }
        for count in [0, 1, 31, 32, 33, 16_384, 16_385] {
            let mut out = vec![0; count];
            bits(key, &mut out);
            assert!(out == long[..count]);
        }
        let other = |key| {
            let mut out = vec![0; 64];
            bits(key, &mut out);
            out
        };
        assert!(other(Key { seed: 1, ..key }) != long[..64] && other(Key { stream: 1, ..key }) != long[..64]);
    }

    /// Mean of `f` over the values.
    fn mean<T: Float>(values: &[T], f: impl Fn(f64) -> f64) -> f64 {
        values.iter().map(|v| f(v.to_f64())).sum::<f64>() / values.len() as f64
    }

    /// Pearson's statistic of `counts` against equal expectations.
    fn chi_square(counts: &[usize]) -> f64 {
        let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        counts.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum()
    }

    fn uniform_statistics<T: Float>() {
        let n = 1_000_003;
        let values = on_any_threads(|| {
            let mut out = vec![T::ZERO; n];
            uniform(Key { seed: 7, stream: 3 }, &mut out);
            out
        });
        assert!(values.iter().all(|&v| v >= T::ZERO && v < T::ONE));
        // Five standard errors: √(1/12n) and √(1/180n).
        assert!((mean(&values, |v| v) - 0.5).abs() < 5.0 * (1.0 / 12.0 / n as f64).sqrt());
        assert!((mean(&values, |v| (v - 0.5).powi(2)) - 1.0 / 12.0).abs() < 5.0 * (1.0 / 180.0 / n as f64).sqrt());
        let mut counts = vec![0; 1000];
        values.iter().for_each(|v| counts[(v.to_f64() * 1000.0) as usize] += 1);
        // 999 degrees of freedom: mean 999, standard deviation 44.7.
        assert!((chi_square(&counts) - 999.0).abs() < 5.0 * 44.7);
        for lag in [1, 8, 16, 32] {
            let product: f64 = (lag..n).map(|i| (values[i].to_f64() - 0.5) * (values[i - lag].to_f64() - 0.5)).sum();
            assert!((product / n as f64).abs() < 5.0 / 12.0 / (n as f64).sqrt(), "lag {lag}");
        }
    }

    #[test]
    fn uniform_numbers_are_uniform() {
        uniform_statistics::<f32>();
        uniform_statistics::<f64>();
    }

    fn normal_statistics<T: Float>() {
        let n = 1_000_003;
        let values = on_any_threads(|| {
            let mut out = vec![T::ZERO; n];
            normal(Key { seed: 11, stream: 5 }, &mut out);
            out
        });
        let error = 1.0 / (n as f64).sqrt();
        // The moments' standard errors: √1, √2, √15, √96 over √n.
        for (power, expected, deviation) in [(1, 0.0, 1.0f64), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let moment = mean(&values, |v| v.powi(power));
            assert!((moment - expected).abs() < 5.0 * deviation.sqrt() * error, "moment {power}: {moment}");
        }
        // Deciles of N(0, 1).
        let edges = [-1.2815516, -0.8416212, -0.5244005, -0.2533471, 0.0, 0.2533471, 0.5244005, 0.8416212, 1.2815516];
        let mut counts = [0; 10];
        values.iter().for_each(|v| counts[edges.iter().filter(|&&edge| v.to_f64() > edge).count()] += 1);
        assert!(chi_square(&counts) < 9.0 + 5.0 * 18f64.sqrt(), "{counts:?}");
        for lag in [1, 8, 16, 32] {
            let product: f64 = (lag..n).map(|i| values[i].to_f64() * values[i - lag].to_f64()).sum();
            assert!((product / n as f64).abs() < 5.0 * error, "lag {lag}");
        }
        let far = values.iter().map(|v| v.to_f64().abs()).fold(0.0, f64::max);
        assert!((4.3..6.6).contains(&far), "{far}");
    }

    #[test]
    fn normal_numbers_are_normal() {
        normal_statistics::<f32>();
        normal_statistics::<f64>();
    }

    #[test]
    fn box_muller_is_accurate_to_the_last_bits() {
        let mut words = vec![0; 200_000];
        bits(Key { seed: 1, stream: 1 }, &mut words);
        words[..8].copy_from_slice(&[0, 0, !0, !0, 1, 1 << 31, 1 << 31, 1 << 29]);
        for pair in words.chunks_exact(2) {
            let (x, y) = box_muller(pair[0], pair[1]);
            let uniform = (((pair[0] >> 1) as f32 + 1.0) as f64) / (1u64 << 31) as f64;
            let radius = (-2.0 * uniform.ln()).sqrt();
            let (sine, cosine) = (pair[1] as f64 / (1u64 << 32) as f64 * std::f64::consts::TAU).sin_cos();
            // Relative to the radius; near uniform = 1 the logarithm's own rounding enters, 2⁻²⁴ of its argument.
            let bound = 3e-7 * radius + 1e-9;
            assert!((x as f64 - radius * cosine).abs() <= bound && (y as f64 - radius * sine).abs() <= bound);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        if std::is_x86_feature_detected!("avx2") {
            let key = Key { seed: 5, stream: 6 };
            let (mut narrow, mut wide) = (vec![0f32; 10_007], vec![0f32; 10_007]);
            groups::<f32, WORDS, Normal>(key, 0, &mut narrow);
            // SAFETY: just checked.
            unsafe { groups_avx2::<f32, WORDS, Normal>(key, 0, &mut wide) };
            assert!(narrow == wide);
        }
    }

    #[test]
    fn permutations_are_complete_and_unbiased() {
        for n in [0, 1, 2, 17, 10_007] {
            let mut out = vec![-1; n];
            permutation(Key { seed: 3, stream: n as u64 }, &mut out);
            let mut sorted = out.clone();
            sorted.sort();
            assert!(sorted.iter().enumerate().all(|(i, &v)| v == i as i64));
            assert!(n < 17 || out != sorted);
        }
        // All 24 orders of four things: 23 degrees of freedom, standard deviation √46.
        let mut counts = vec![0; 256];
        for stream in 0..24_000 {
            let mut out = [0; 4];
            permutation(Key { seed: 9, stream }, &mut out);
            counts[out.iter().fold(0, |code, &v| code << 2 | v as usize)] += 1;
        }
        counts.retain(|&n| n > 0);
        assert_eq!(counts.len(), 24);
        assert!((chi_square(&counts) - 23.0).abs() < 5.0 * 46f64.sqrt());
    }

    #[test]
    fn draws_below_a_bound_that_rejects_often_are_unbiased() {
        let mut draws = Draws { key: Key { seed: 2, stream: 2 }, next: 0, words: [[0; LANES]; 4] };
        // Of 2⁶⁴ words a quarter is refused; without that, the lower half would come up twice as often.
        let bound = 3u64 << 62;
        let n = 100_000;
        let low = (0..n).filter(|_| draws.below(bound) < bound / 2).count();
        assert!((low as f64 - n as f64 / 2.0).abs() < 5.0 * (n as f64 / 4.0).sqrt());
        assert!(draws.next > n * 5 / 4);
    }
}
