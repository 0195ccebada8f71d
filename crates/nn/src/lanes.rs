//! Sigmoid and tanh of several numbers at a time.
//!
//! For `f32` they are branch-free polynomials that the compiler turns into vector instructions. With
//! `k = round(x / ln 2)` and `r = x − k ln 2`
//!
//! ```text
//! exp(x) = 2ᵏ (1 + r + r² q(r))
//! sigmoid(x) = 1 / (1 + exp(−x))
//! tanh(x) = x + x³ p(x²)  for |x| < 0.625,  sign(x) (1 − 2 / (exp(2|x|) + 1))  beyond
//! ```
//!
//! `q` and `p` are minimax fits, of relative error 3e-9 and 4e-9. No fused multiply-add is used, so
//! the results are the same on every processor. For `f64` the standard library is called.

use std::any::Any;

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

/// `1 / (1 + exp(−x))` in every lane.
#[inline(always)]
pub(crate) fn sigmoid<A: Scalar>(mut x: Lanes<A>) -> Lanes<A> {
    match single(&mut x) {
        Some(x) => {
            for x in x.iter_mut() {
                *x = 1.0 / (1.0 + exp_f32(-*x));
            }
        }
        None => {
            for x in &mut x {
                *x = A::one() / (A::one() + (-*x).exp());
            }
        }
    }
    x
}

/// `tanh(x)` in every lane.
#[inline(always)]
pub(crate) fn tanh<A: Scalar>(mut x: Lanes<A>) -> Lanes<A> {
    match single(&mut x) {
        Some(x) => {
            for x in x.iter_mut() {
                *x = tanh_f32(*x);
            }
        }
        None => {
            for x in &mut x {
                *x = x.tanh();
            }
        }
    }
    x
}

/// The lanes themselves if they are `f32`; decided when the program is compiled.
#[inline(always)]
fn single<A: Scalar>(lanes: &mut Lanes<A>) -> Option<&mut Lanes<f32>> {
    (lanes as &mut dyn Any).downcast_mut()
}

/// Below this `exp` is under the smallest normal `f32`, above the largest power of two it leaves
/// the range.
const EXP_RANGE: (f32, f32) = (-87.3, 88.3);

/// 1.5 · 2²³: adding it to a small number leaves its rounded integer in the low bits.
const ROUNDING: f32 = 12_582_912.0;

#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // ln 2 in two parts, the first with few enough bits that its product with k is exact.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    const Q: [f32; 5] = [
        0.499_999_94,
        0.166_665_21,
        0.041_668_39,
        0.008_368_71,
        0.001_381_461_3,
    ];
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
fn tanh_f32(x: f32) -> f32 {
    const SMALL: f32 = 0.625;
    const P: [f32; 5] = [
        -0.333_332_84,
        0.133_314_91,
        -0.053_743_497,
        0.020_650_587,
        -0.005_717_044_5,
    ];
    let magnitude = x.abs();
    let square = x * x;
    let p = P[0] + square * (P[1] + square * (P[2] + square * (P[3] + square * P[4])));
    let small = x + x * square * p;
    let large = (1.0 - 2.0 / (exp_f32(2.0 * magnitude) + 1.0)).copysign(x);
    if magnitude < SMALL { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest relative error of a lane function over the whole range where its result is not
    /// a constant.
    fn largest_error(function: fn(Lanes<f32>) -> Lanes<f32>, exact: fn(f64) -> f64) -> f64 {
        let mut worst = 0.0_f64;
        for index in -870_000..=870_000 {
            let x = index as f32 * 1e-4;
            let found = f64::from(function([x; LANES])[3]);
            let expected = exact(f64::from(x));
            if expected != 0.0 {
                worst = worst.max((found / expected - 1.0).abs());
            }
        }
        worst
    }

    #[test]
    fn single_precision_is_right_to_its_rounding() {
        // Twice the rounding unit for tanh, twice and a half for the reciprocal of an exponential.
        let error = largest_error(tanh, f64::tanh);
        assert!(error < 1.5e-7, "{error:e}");
        let error = largest_error(sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
        assert!(error < 2.5e-7, "{error:e}");
    }

    #[test]
    fn extreme_inputs() {
        let lane = |function: fn(Lanes<f32>) -> Lanes<f32>, x: f32| function([x; LANES])[0];
        for x in [100.0, 1e30, f32::INFINITY] {
            assert_eq!(lane(sigmoid, x), 1.0);
            assert!((0.0..1e-37).contains(&lane(sigmoid, -x)));
            assert_eq!((lane(tanh, x), lane(tanh, -x)), (1.0, -1.0));
        }
        assert!(lane(sigmoid, f32::NAN).is_nan() && lane(tanh, f32::NAN).is_nan());
        assert_eq!(lane(tanh, 1e-30), 1e-30);
        assert_eq!(lane(sigmoid, 0.0), 0.5);
    }

    #[test]
    fn double_precision_is_the_standard_library() {
        assert_eq!(tanh([0.3_f64; LANES])[7], 0.3_f64.tanh());
        assert_eq!(sigmoid([0.3_f64; LANES])[7], 1.0 / (1.0 + (-0.3_f64).exp()));
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
