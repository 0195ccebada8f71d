//! Functions and sums of several numbers at a time.
//!
//! For `f32` it is made of branch-free polynomials that the compiler turns into vector instructions. With
//! `k = round(x / ln 2)` and `r = x − k ln 2`
//!
//! ```text
//! exp(x) = 2ᵏ (1 + r + r² q(r))
//! Φ(−|x|) = t n(t) exp(−x²/2)  with t = 1 / (1 + 0.275 |x|),  Φ(|x|) = 1 − Φ(−|x|)
//! ```
//!
//! `q` and `n` are minimax fits, of relative error 3e-9 and 4e-8. No fused multiply-add is used, so
//! the results are the same on every processor. For `f64` `libm` is called.

use std::any::Any;
use std::f64::consts::FRAC_1_SQRT_2;

use modalign_core::Scalar;

/// One AVX-512 register of `f32`, two of AVX, four of SSE and NEON.
pub(crate) const LANES: usize = 16;

/// The numbers that are computed together.
pub(crate) type Lanes<A> = [A; LANES];

/// The first lanes of `source`, filled up with zeros where it ends.
#[inline(always)]
pub(crate) fn load<A: Scalar>(source: &[A]) -> Lanes<A> {
    match source.first_chunk() {
        Some(lanes) => *lanes,
        None => {
            let mut lanes = [A::zero(); LANES];
            lanes[..source.len()].copy_from_slice(source);
            lanes
        }
    }
}

/// Writes the lanes to the front of `target`, as far as it goes.
#[inline(always)]
pub(crate) fn store<A: Scalar>(lanes: &Lanes<A>, target: &mut [A]) {
    match target.first_chunk_mut() {
        Some(target) => *target = *lanes,
        None => {
            let length = target.len();
            target.copy_from_slice(&lanes[..length]);
        }
    }
}

/// `Σ term(x, y)` over two slices of one length, in the same order on every processor.
#[inline(always)]
pub(crate) fn sum_of<A: Scalar>(x: &[A], y: &[A], term: impl Fn(A, A) -> A) -> A {
    let mut sums = [A::zero(); LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    for (sum, (&x, &y)) in sums.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *sum += term(x, y);
    }
    sums.into_iter().sum()
}

/// The exponential function of every number; for `f32`, 0 where it is under the smallest normal one.
#[inline(always)]
pub(crate) fn exponentials<A: Scalar>(x: &mut [A]) {
    for x in x.chunks_mut(LANES) {
        let mut lanes = load(x);
        match single(&mut lanes) {
            Some(lanes) => {
                for x in lanes {
                    let exp = exp_f32(*x);
                    *x = if *x < EXP_RANGE.0 { 0.0 } else { exp };
                }
            }
            None => lanes.iter_mut().for_each(|x| *x = x.exp()),
        }
        store(&lanes, x);
    }
}

/// The distribution Φ and the density φ of the standard normal in every lane.
#[inline(always)]
pub(crate) fn normal<A: Scalar>(mut x: Lanes<A>) -> (Lanes<A>, Lanes<A>) {
    let mut density = x;
    match (single(&mut x), single(&mut density)) {
        (Some(x), Some(density)) => {
            for (x, density) in x.iter_mut().zip(density) {
                (*x, *density) = normal_f32(*x);
            }
        }
        _ => {
            for (x, density) in x.iter_mut().zip(&mut density) {
                // erfc keeps its digits in the lower tail, where 1 + erf cancels.
                let distribution = 0.5 * libm::erfc(-x.as_f64() * FRAC_1_SQRT_2);
                *density = A::from_f64(DENSITY_AT_0) * (-*x * *x * A::from_f64(0.5)).exp();
                *x = A::from_f64(distribution);
            }
        }
    }
    (x, density)
}

/// 1/√(2π)
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// The lanes themselves if they are `f32`; decided when the program is compiled.
#[inline(always)]
fn single<A: Scalar>(lanes: &mut Lanes<A>) -> Option<&mut Lanes<f32>> {
    (lanes as &mut dyn Any).downcast_mut()
}

/// Below this `exp` is under the smallest normal `f32`, above the largest power of two it leaves
/// the range.
pub(crate) const EXP_RANGE: (f32, f32) = (-87.3, 88.3);

/// 1.5 · 2²³: adding it to a small number leaves its rounded integer in the low bits.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

/// ln 2 in two parts, the first with few enough bits that its product with k is exact.
pub(crate) const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);

/// The coefficients of q, the lowest first.
pub(crate) const Q: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    0.041_668_39,
    0.008_368_71,
    0.001_381_461_3,
];

#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // Comparisons and not `clamp` by max and min, so that NaN stays NaN.
    let x = if x < EXP_RANGE.0 { EXP_RANGE.0 } else { x };
    let x = if x > EXP_RANGE.1 { EXP_RANGE.1 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let k = shifted - ROUNDING;
    let r = (x - k * LN_2.0) - k * LN_2.1;
    let q = Q[0] + r * (Q[1] + r * (Q[2] + r * (Q[3] + r * Q[4])));
    // The low bits of `shifted` hold k; moved to the exponent they multiply 1.0 by 2ᵏ.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    (1.0 + (r + r * r * q)) * scale
}

#[inline(always)]
fn normal_f32(x: f32) -> (f32, f32) {
    const SCALE: f32 = 0.275;
    const N: [f32; 9] = [
        0.109_699_965,
        0.109_834_8,
        0.100_925_5,
        0.083_771_47,
        0.076_949_88,
        -0.019_622_225,
        0.117_020_115,
        -0.104_529_26,
        0.025_949_778,
    ];
    let t = 1.0 / (1.0 + SCALE * x.abs());
    let high = N[5] + t * (N[6] + t * (N[7] + t * N[8]));
    let n = N[0] + t * (N[1] + t * (N[2] + t * (N[3] + t * (N[4] + t * high))));
    let exp = exp_f32(-0.5 * x * x);
    let tail = t * n * exp;
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (distribution, DENSITY_AT_0 as f32 * exp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_right_to_its_rounding() {
        for index in -80_000..=80_000 {
            let x = index as f32 * 1e-4;
            let (distribution, density) = normal([x; LANES]);
            let (exact, exact_density) = normal([f64::from(x); LANES]);
            let error = f64::from(distribution[5]) / exact[5] - 1.0;
            // The exponent x²/2 is rounded, which counts in the tail.
            let bound = 4e-7 + 6e-8 * f64::from(x * x);
            assert!(error.abs() < bound, "{x}: {error:e}");
            let error = f64::from(density[5]) / exact_density[5] - 1.0;
            assert!(error.abs() < bound, "{x}: {error:e}");
        }
        for (x, expected) in [(40.0_f32, 1.0), (f32::INFINITY, 1.0), (-1e30, 0.0)] {
            let (distribution, density) = normal([x; LANES]);
            assert!((distribution[0] - expected).abs() < 1e-37 && density[0] < 1e-37);
        }
        assert!(normal([f32::NAN; LANES]).0[0].is_nan());
    }

    #[test]
    fn exponentials_are_right_to_their_rounding() {
        let x: Vec<f32> = (-87_000..=88_000)
            .map(|index| index as f32 * 1e-3)
            .collect();
        let mut found = x.clone();
        exponentials(&mut found);
        for (x, found) in x.iter().zip(found) {
            let error = f64::from(found) / f64::from(*x).exp() - 1.0;
            assert!(error.abs() < 1.5e-7, "{x}: {error:e}");
        }
        let mut edges = [0.0, -88.0, f32::NEG_INFINITY, f32::NAN];
        exponentials(&mut edges);
        assert_eq!(edges[..3], [1.0, 0.0, 0.0]);
        assert!(edges[3].is_nan());
    }

    #[test]
    fn sums_of_terms_are_those_of_a_plain_loop() {
        for length in [0, 1, 15, 16, 17, 50] {
            let x: Vec<f64> = (0..length).map(|x| f64::from(x * 7 % 11)).collect();
            let y: Vec<f64> = (0..length).map(|x| f64::from(x * 5 % 13)).collect();
            let expected: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
            assert_eq!(sum_of(&x, &y, |x, y| x * y), expected);
        }
    }

    #[test]
    fn short_slices_are_filled_and_cut() {
        let lanes = load(&[1.0_f32, 2.0]);
        assert_eq!(lanes[..3], [1.0, 2.0, 0.0]);
        let mut target = [0.0; 3];
        store(&[5.0; LANES], &mut target[..2]);
        assert_eq!(target, [5.0, 5.0, 0.0]);
    }
}
