//! Elementary functions in f32 as branch-free polynomials that the compiler turns into vector code, and the f64 forms.
//!
//! Each f32 function takes `FMA`: with `true` it must be inlined into code compiled for fused multiply-add (the tile
//! kernels, or any `#[target_feature(enable = "avx2,fma")]` function), otherwise each step becomes a library call.
//! Errors below are against the exact value, in units in the last place of the result, denormal arguments and results
//! included; the tests hold them. The polynomials are minimax fits made for these intervals.
//!
//! | function | ulp | | function | ulp |
//! |---|---|---|---|---|
//! | `exp` | 1.5 | | `sigmoid` | 2.5 |
//! | `expm1` | 2 | | `tanh` | 3 |
//! | `ln` | 1.5 | | `erf` | 2 |
//! | `log1p` | 2 | | `sin`, `cos` | 1.5 |
//! | `pow` | 1 | | | |

/// `a·b + c`, fused when `FMA`.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `a·b + c` in f64, fused when `FMA`.
#[inline(always)]
fn fma64<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Σ `coefficients[k]`·xᵏ by Horner's rule.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut k = N - 1;
    while k > 0 {
        k -= 1;
        sum = fma::<FMA>(sum, x, coefficients[k]);
    }
    sum
}

/// Σ `coefficients[k]`·xᵏ in f64.
#[inline(always)]
fn polynomial64<const FMA: bool, const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    let mut k = N - 1;
    while k > 0 {
        k -= 1;
        sum = fma64::<FMA>(sum, x, coefficients[k]);
    }
    sum
}

use exponential::{EXP, LN2_HIGH, LN2_LOW, OVERFLOWS, ROUND, VANISHES};

/// The numbers of [`exp`], for those who take its steps in vectors of their own.
pub(crate) mod exponential {
    /// Adding and subtracting this rounds an f32 of magnitude below 2²² to an integer, which the low bits then hold.
    pub(crate) const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    /// ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
    pub(crate) const LN2_HIGH: f32 = 0.693_359_375;
    pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
    /// `(eʳ − 1 − r) / r²` for `|r| ≤ ln 2 / 2`; error of the whole 5·10⁻¹¹.
    pub(crate) const EXP: [f32; 6] =
        [0.500000008337574, 0.16666666842506, 0.04166625235426, 0.00833326801649, 0.00139472992820, 0.00019916613312];
    /// Of what is less the exponential is 0: half of the smallest denormal is e^−103.972.
    pub(crate) const VANISHES: f32 = -103.98;
    /// The exponential of this and of what is more is infinity.
    pub(crate) const OVERFLOWS: f32 = 89.0;
}

/// `x = k·ln 2 + r` with `|r| ≤ ln 2 / 2`: returns `(k, r)`. `|x|` is at most a few hundred; NaN gives a NaN remainder.
#[inline(always)]
fn reduce_exp<const FMA: bool>(x: f32) -> (i32, f32) {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let count = shifted - ROUND;
    let r = fma::<FMA>(count, -LN2_HIGH, x);
    let r = fma::<FMA>(count, -LN2_LOW, r);
    ((shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32), r)
}

/// 2ᵏ for an exponent in the normal range.
#[inline(always)]
fn power_of_two(k: i32) -> f32 {
    f32::from_bits((k.wrapping_add(127) as u32) << 23)
}

/// The smaller bound wins against everything but NaN, which passes.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// `eˣ`. Overflows to infinity, underflows through the denormals to 0.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Many machines take a hundred cycles over a product that is less than half of the smallest denormal, and masked scores
    // are: those are not multiplied.
    let vanishes = x < VANISHES;
    let (k, r) = reduce_exp::<FMA>(clamp(if vanishes { 0.0 } else { x }, VANISHES, OVERFLOWS));
    let p = fma::<FMA>(r * r, polynomial::<FMA, 6>(r, EXP), r) + 1.0;
    // Two factors, so that neither leaves the normal range and a denormal result is rounded once.
    let half = k >> 1;
    let y = p * power_of_two(half) * power_of_two(k.wrapping_sub(half));
    if vanishes { 0.0 } else { y }
}

/// `eˣ − 1`, exact to the last places near 0.
#[inline(always)]
pub fn expm1<const FMA: bool>(x: f32) -> f32 {
    let (k, r) = reduce_exp::<FMA>(clamp(x, -20.0, 89.0));
    let e = fma::<FMA>(r * r, polynomial::<FMA, 6>(r, EXP), r);
    // Half of 2ᵏ stays finite for the largest k.
    let half = power_of_two(k.wrapping_sub(1));
    let y = 2.0 * fma::<FMA>(half, e, half - 0.5);
    if x.abs() < 2e-8 { x } else { y }
}

/// `(ln(1+f) − f + f²/2) / f³` for `√½ ≤ 1+f ≤ √2`; relative error of the whole 7·10⁻¹⁰.
const LN: [f32; 9] = [
    0.333333126028991,
    -0.250000096444457,
    0.200021187774137,
    -0.166679941377395,
    0.142195492048771,
    -0.124056148590963,
    0.118882065725990,
    -0.116755093943318,
    0.067463695787657,
];

/// The natural logarithm. `ln 0 = −∞`, negative gives NaN.
#[inline(always)]
pub fn ln<const FMA: bool>(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits() as i32;
    // The exponent is taken where the mantissa passes √½, so that 1+f lies around 1.
    let offset = bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
    let k = offset >> 23;
    let m = f32::from_bits(bits.wrapping_sub(k << 23) as u32);
    let count = k as f32 - if tiny { 23.0 } else { 0.0 };
    let f = m - 1.0;
    let square = f * f;
    let tail = fma::<FMA>(square * f, polynomial::<FMA, 9>(f, LN), count * LN2_LOW);
    let tail = fma::<FMA>(square, -0.5, tail);
    let y = fma::<FMA>(count, LN2_HIGH, f + tail);
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < 0.0 { f32::NAN } else { y }
}

/// `ln(1 + x)`, exact to the last places near 0.
#[inline(always)]
pub fn log1p<const FMA: bool>(x: f32) -> f32 {
    let u = 1.0 + x;
    // What rounding 1+x lost, to first order.
    let y = ln::<FMA>(u) + (x - (u - 1.0)) / u;
    let y = if u == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    if x.abs() < 2e-8 { x } else { y }
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    let e = expm1::<FMA>(2.0 * clamp(size, 0.0, 10.0));
    let y = e / (e + 2.0);
    // Below this, doubling and halving denormals would lose nothing but time; x itself is the nearest value.
    let y = if size < 1e-4 { size } else { y };
    y.copysign(x)
}

/// `1/(1+e⁻ˣ)`.
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    let top = if x < 0.0 { e } else { 1.0 };
    top / (1.0 + e)
}

/// `erf(x)/x − 1` in x², `|x| ≤ 1`; error 1.2·10⁻⁹.
const ERF: [f32; 7] = [
    0.128379165913672,
    -0.376126271353878,
    0.112836001694795,
    -0.0268544443015403,
    0.00518953477751180,
    -0.000802083627239237,
    0.0000788910280360322,
];

/// `ln(1 − erf(x))` for `1 ≤ x ≤ 4`; error of the whole 2·10⁻¹¹.
const ERFC: [f32; 8] = [
    0.000188512412840340,
    -1.12958051728760,
    -0.633215998014197,
    -0.108422519944749,
    0.0252105998582980,
    -0.00420537918795657,
    0.000441491269586276,
    -0.0000216991510222008,
];

/// The error function `2/√π · ∫₀ˣ e^(−t²) dt`.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let size = clamp(x.abs(), 0.0, 4.0);
    let square = size * size;
    let near = fma::<FMA>(size, polynomial::<FMA, 7>(square, ERF), size);
    let far = 1.0 - exp::<FMA>(polynomial::<FMA, 8>(size, ERFC));
    let y = if size < 1.0 { near } else { far };
    y.copysign(x)
}

/// Beyond this magnitude [`sin`] and [`cos`] lose accuracy; the tile kernels then ask the standard library.
pub const SIN_LIMIT: f32 = 1e6;

/// `x = k·π/2 + r` with `|r| ≤ π/4`: returns `(k, r)`, for `|x| ≤ SIN_LIMIT`. In f64, since f32 would cancel.
#[inline(always)]
fn reduce_sin<const FMA: bool>(x: f32) -> (i32, f32) {
    // π/2 in two parts: 33 bits, so that k times it is exact, and the rest.
    const HIGH: f64 = 1.570_796_326_734_125_6;
    const LOW: f64 = 6.077_100_506_506_192e-11;
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²
    let x = x as f64;
    let shifted = fma64::<FMA>(x, std::f64::consts::FRAC_2_PI, ROUND);
    let count = shifted - ROUND;
    let r = fma64::<FMA>(count, -HIGH, x);
    let r = fma64::<FMA>(count, -LOW, r);
    (shifted.to_bits() as i32, r as f32)
}

/// `sin` of the angle `r + k·π/2`, `|r| ≤ π/4`.
#[inline(always)]
fn quarter_turns<const FMA: bool>(k: i32, r: f32) -> f32 {
    let u = r * r;
    const SIN: [f32; 4] = [-0.166666666406100, 0.00833332926647919, -0.000198392960675441, 2.71793940023718e-6];
    const COS: [f32; 4] = [0.0416666666210452, -0.00138888835977740, 0.0000247994785136019, -2.72067800401562e-7];
    let sin = fma::<FMA>(r * u, polynomial::<FMA, 4>(u, SIN), r);
    let half = 0.5 * u;
    let one = 1.0 - half;
    // (1 − one) − half is what rounding `one` lost.
    let cos = one + fma::<FMA>(u * u, polynomial::<FMA, 4>(u, COS), (1.0 - one) - half);
    let y = if k & 1 == 0 { sin } else { cos };
    f32::from_bits(y.to_bits() ^ ((k as u32 & 2) << 30))
}

/// The sine of an angle in radians, `|x| ≤ SIN_LIMIT`; infinities give NaN.
#[inline(always)]
pub fn sin<const FMA: bool>(x: f32) -> f32 {
    let (k, r) = reduce_sin::<FMA>(x);
    let y = quarter_turns::<FMA>(k, r);
    // Keeps the sign of −0, which the reduction turns into +0.
    if x == 0.0 { x } else { y }
}

/// The cosine of an angle in radians, `|x| ≤ SIN_LIMIT`; infinities give NaN.
#[inline(always)]
pub fn cos<const FMA: bool>(x: f32) -> f32 {
    let (k, r) = reduce_sin::<FMA>(x);
    quarter_turns::<FMA>(k.wrapping_add(1), r)
}

/// `log₂ x` in f64 of a positive normal f64, infinity included; relative error 10⁻¹¹.
#[inline(always)]
fn log2_f64<const FMA: bool>(x: f64) -> f64 {
    const ATANH: [f64; 4] = [0.333333328008508229, 0.200001729677702206, 0.142682893890092636, 0.117984048141144727];
    let bits = x.to_bits();
    let offset = bits.wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits());
    // The exponent, biased to stay positive, is read back as the low bits of a float: there is no vector conversion
    // from 64-bit integers.
    let biased = (offset.wrapping_add(1023 << 52)) >> 52;
    let count = f64::from_bits(biased | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let m = f64::from_bits(bits.wrapping_sub(biased.wrapping_sub(1023) << 52));
    let s = (m - 1.0) / (m + 1.0);
    let u = s * s;
    let log = 2.0 * fma64::<FMA>(s * u, polynomial64::<FMA, 4>(u, ATANH), s);
    let y = fma64::<FMA>(log, std::f64::consts::LOG2_E, count);
    if x == f64::INFINITY { x } else { y }
}

/// `2ˣ` in f64 for `|x| ≤ 300`; relative error 4·10⁻¹¹.
#[inline(always)]
fn exp2_f64<const FMA: bool>(x: f64) -> f64 {
    const EXP2: [f64; 8] = [
        0.999999999959549572,
        0.693147180535055303,
        0.240226512135852025,
        0.0555041097601311218,
        0.00961802560406146153,
        0.0013333422723237868,
        0.000154697316766754461,
        0.0000153164438021803112,
    ];
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    polynomial64::<FMA, 8>(r, EXP2) * scale
}

/// `xʸ` with the special cases of [`f32::powf`]: `x⁰ = 1ʸ = 1` even for NaN, a negative base takes integer exponents
/// only, signed zeros and infinities keep the sign of an odd power.
#[inline(always)]
pub fn pow<const FMA: bool>(x: f32, y: f32) -> f32 {
    let size = x.abs();
    let wide = size as f64;
    let log = log2_f64::<FMA>(wide);
    let log = if size == 0.0 { f64::NEG_INFINITY } else { log };
    let power = y as f64 * log;
    let power = if power > 300.0 { 300.0 } else { power };
    let power = if power < -300.0 { -300.0 } else { power };
    let result = exp2_f64::<FMA>(power) as f32;
    let result = if size == 1.0 && y.abs() == f32::INFINITY { 1.0 } else { result };
    let integer = y.floor() == y;
    let half = 0.5 * y;
    let odd = integer && half.floor() != half;
    let negative = x.is_sign_negative();
    let result = if negative && odd { -result } else { result };
    let result = if x < 0.0 && !integer && size < f32::INFINITY { f32::NAN } else { result };
    let result = if x.is_nan() || y.is_nan() { f32::NAN } else { result };
    if y == 0.0 || x == 1.0 { 1.0 } else { result }
}

/// `1/(1+e⁻ˣ)` in f64, without overflow on either side.
pub fn sigmoid_f64(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// The error function in f64, within 1 ulp.
pub fn erf_f64(x: f64) -> f64 {
    libm::erf(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance of `got` from `exact`, in units in the last place of `exact` as an f32.
    fn ulps(got: f32, exact: f64) -> f64 {
        if exact.is_nan() || got.is_nan() {
            return if exact.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
        }
        let nearest = exact as f32;
        if got == nearest {
            return 0.0;
        }
        if nearest.is_infinite() || got.is_infinite() {
            // Beside the overflow threshold the largest finite number and infinity are one step apart.
            return if got.abs() >= f32::MAX && exact.abs() >= f32::MAX as f64 * (1.0 - 1e-7) {
                1.0
            } else {
                f64::INFINITY
            };
        }
        let size = nearest.abs().max(f32::MIN_POSITIVE);
        let unit = f32::from_bits(size.to_bits() + 1) as f64 - size as f64;
        ((got as f64 - exact) / unit).abs()
    }

    /// Every 4099th bit pattern, which meets every exponent and sign, and the awkward values.
    fn samples() -> impl Iterator<Item = f32> {
        let special = [0.0, -0.0, 1.0, -1.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY];
        let edges = [88.72283f32, 88.72284, -87.33655, -103.97208, -103.97209, 1e-45, -1e-45, f32::NAN];
        let dense = (-400_000..400_000).map(|i| i as f32 * 5e-5);
        (0..=u32::MAX).step_by(4099).map(f32::from_bits).chain(special).chain(edges).chain(dense)
    }

    fn check(name: &str, bound: f64, range: f32, f: &dyn Fn(f32) -> f32, exact: fn(f64) -> f64) {
        let (mut worst, mut at) = (0.0, 0.0);
        for x in samples().filter(|x| x.is_nan() || x.abs() <= range) {
            let error = ulps(f(x), exact(x as f64));
            if error > worst {
                (worst, at) = (error, x);
            }
        }
        println!("{name}: {worst:.3} ulp at {at:e}");
        assert!(worst <= bound, "{name}({at:e}) = {:e}, {worst} ulp off {:e}", f(at), exact(at as f64));
        assert!(f(f32::NAN).is_nan(), "{name}(NaN)");
    }

    fn check_all<const FMA: bool>() {
        let all = f32::INFINITY;
        check("exp", 1.5, all, &exp::<FMA>, f64::exp);
        check("expm1", 2.0, all, &expm1::<FMA>, f64::exp_m1);
        check("ln", 1.5, all, &ln::<FMA>, f64::ln);
        check("log1p", 2.0, all, &log1p::<FMA>, f64::ln_1p);
        check("tanh", 3.0, all, &tanh::<FMA>, f64::tanh);
        check("sigmoid", 2.5, all, &sigmoid::<FMA>, sigmoid_f64);
        check("erf", 2.0, all, &erf::<FMA>, erf_f64);
        check("sin", 1.5, SIN_LIMIT, &sin::<FMA>, f64::sin);
        check("cos", 1.5, SIN_LIMIT, &cos::<FMA>, f64::cos);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn check_all_fused() {
        check_all::<true>();
    }

    #[test]
    fn errors_stay_within_the_stated_ulps() {
        check_all::<false>();
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the features were found just above.
            unsafe { check_all_fused() };
        }
    }

    #[test]
    fn signed_zeros_are_kept() {
        for f in [expm1::<false>, log1p::<false>, tanh::<false>, erf::<false>, sin::<false>] {
            assert_eq!(f(-0.0).to_bits(), (-0.0f32).to_bits());
            assert_eq!(f(0.0).to_bits(), 0);
        }
    }

    #[test]
    fn pow_is_within_one_ulp_and_has_the_special_cases_of_powf() {
        let special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            2.0,
            -2.0,
            3.0,
            -3.0,
            0.5,
            -0.5,
            0.3,
            -1.5,
            2.5,
            1e-45,
            -1e-45,
            1e38,
            -1e38,
            8_388_609.0,
            16_777_217.0,
            1e9,
            -1e9,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MAX,
            f32::MIN_POSITIVE,
        ];
        for x in special {
            for y in special {
                for got in [pow::<false>(x, y), pow::<true>(x, y)] {
                    let want = (x as f64).powf(y as f64);
                    assert!(ulps(got, want) <= 1.0, "{x}^{y} = {got}, not {want}");
                    assert_eq!(
                        got.is_sign_negative() && !got.is_nan(),
                        want.is_sign_negative() && !want.is_nan(),
                        "{x}^{y}"
                    );
                }
            }
        }
        let mut worst: f64 = 0.0;
        for x in (0..=0x7f80_0000u32).step_by(65_537).map(f32::from_bits) {
            for y in [-7.3f32, -3.0, -0.333, 0.01, 0.5, 0.75, 1.0, 2.0, 2.4, 3.0, 10.0, 25.7] {
                worst = worst.max(ulps(pow::<false>(x, y), (x as f64).powf(y as f64)));
            }
        }
        for x in (0..2000).map(|i| 0.9 + i as f32 * 1e-4) {
            for y in (0..200).map(|i| i as f32 * 3.7 - 370.0) {
                worst = worst.max(ulps(pow::<false>(x, y), (x as f64).powf(y as f64)));
            }
        }
        println!("pow: {worst:.3} ulp");
        assert!(worst <= 1.0, "{worst}");
    }

    #[test]
    fn f64_forms_are_accurate() {
        // Abramowitz and Stegun, table 7.1.
        for (x, y) in [(0.5, 0.5204998778130465), (1.0, 0.8427007929497149), (2.0, 0.9953222650189527)] {
            assert!((erf_f64(x) - y).abs() <= 1e-15 && (erf_f64(-x) + y).abs() <= 1e-15);
        }
        assert_eq!((erf_f64(f64::INFINITY), erf_f64(0.0)), (1.0, 0.0));
        assert!((sigmoid_f64(2.0) - 0.8807970779778823).abs() <= 1e-15);
        assert_eq!((sigmoid_f64(-1000.0), sigmoid_f64(1000.0)), (0.0, 1.0));
    }
}
