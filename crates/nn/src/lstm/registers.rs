//! What the kernels of the layer ask of a processor's vector registers.
//!
//! `f32` runs on pulp's registers where the processor has some, with
//!
//! ```text
//! exp(x) = 2ᵏ (1 + p),   k = round(x / ln 2),   p = r + r² q(r),   r = x − k ln 2
//! sigmoid(x) = 1 / (1 + exp(−x))
//! tanh(|x|) = −e / (2 + e),   e = exp(−2|x|) − 1 = (2ᵏ − 1) + 2ᵏ p
//! ```
//!
//! where `q` is a minimax fit of relative error 3e-9; `e` keeps its digits for small x. Everything
//! else runs on arrays and calls the standard library.

use std::any::{Any, TypeId};
use std::f32::consts::LOG2_E;
use std::marker::PhantomData;

use modalign_core::Scalar;
use modalign_linalg::vectorized;
use pulp::{Arch, Simd, WithSimd};

use super::cell::Tape;
use crate::lanes::{EXP_RANGE, LN_2, Q, ROUNDING};

/// Registers of numbers of one type. Methods must be inlined into code that is compiled for the
/// instruction set.
pub(super) trait Registers: Copy {
    type Scalar: Scalar;
    type Register: Copy;
    const LANES: usize;
    /// How many there are.
    const COUNT: usize;

    /// Memory as whole registers; what is left over at the end is missing.
    fn view(numbers: &[Self::Scalar]) -> &[Self::Register];
    fn view_mut(numbers: &mut [Self::Scalar]) -> &mut [Self::Register];
    fn splat(self, x: Self::Scalar) -> Self::Register;
    fn add(self, a: Self::Register, b: Self::Register) -> Self::Register;
    fn mul(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// `a * b + c`, with one rounding where the instruction set has it.
    fn mul_add(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register;
    /// `c - a * b`, likewise.
    fn sub_mul(self, c: Self::Register, a: Self::Register, b: Self::Register) -> Self::Register;
    fn sigmoid(self, x: Self::Register) -> Self::Register;
    fn tanh(self, x: Self::Register) -> Self::Register;
    /// Zero in the place of numbers below [`tiny`].
    fn flush(self, x: Self::Register) -> Self::Register;
}

/// Gradients below this magnitude, 1.6e-30 for `f32`, count as zero. They change no digit of a sum with
/// those of the last steps, and would go on to halve to numbers with less than full precision, which
/// processors take a hundred times as long for, and which rounding keeps from ever reaching zero.
fn tiny<A: Scalar>() -> A {
    A::min_positive_value() * A::from_f64(f64::from(1_u32 << 27))
}

/// A pass of one tape on any registers.
pub(super) trait Pass {
    fn run<R: Registers>(self, registers: R, tape: &mut Tape<R::Scalar>);
}

/// Runs a pass on the best registers for the numbers of the tape.
pub(super) fn dispatch<A: Scalar>(pass: impl Pass, tape: &mut Tape<A>) {
    if let Some(tape) = (tape as &mut dyn Any).downcast_mut() {
        Arch::new().dispatch(OnSingle { pass, tape });
    } else {
        vectorized(
            #[inline(always)]
            || pass.run(Portable(PhantomData), tape),
        );
    }
}

/// Numbers a register in [`dispatch`].
pub(super) fn lanes<A: Scalar>() -> usize {
    struct Count;
    impl WithSimd for Count {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            if S::IS_SCALAR {
                Portable::<f32>::LANES
            } else {
                Single::<S>::LANES
            }
        }
    }
    if TypeId::of::<A>() == TypeId::of::<f32>() {
        Arch::new().dispatch(Count)
    } else {
        Portable::<A>::LANES
    }
}

struct OnSingle<'a, P> {
    pass: P,
    tape: &'a mut Tape<f32>,
}

impl<P: Pass> WithSimd for OnSingle<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::IS_SCALAR {
            self.pass.run(Portable(PhantomData), self.tape);
        } else {
            self.pass.run(Single(simd), self.tape);
        }
    }
}

/// `f32` in the registers of an instruction set.
#[derive(Clone, Copy)]
struct Single<S>(S);

impl<S: Simd> Single<S> {
    /// `(2ᵏ, p)` of `exp(x) = 2ᵏ (1 + p)` for x in `EXP_RANGE`.
    #[inline(always)]
    fn exp(self, x: S::f32s) -> (S::f32s, S::f32s) {
        let simd = self.0;
        let splat = |x| simd.splat_f32s(x);
        let shifted = simd.mul_add_f32s(x, splat(LOG2_E), splat(ROUNDING));
        let k = simd.sub_f32s(shifted, splat(ROUNDING));
        let r = self.sub_mul(x, k, splat(LN_2.0));
        let r = self.sub_mul(r, k, splat(LN_2.1));
        let q = simd.mul_add_f32s(r, splat(Q[4]), splat(Q[3]));
        let q = simd.mul_add_f32s(r, q, splat(Q[2]));
        let q = simd.mul_add_f32s(r, q, splat(Q[1]));
        let q = simd.mul_add_f32s(r, q, splat(Q[0]));
        let p = simd.mul_add_f32s(simd.mul_f32s(r, r), q, r);
        // The low bits of `shifted` hold k; moved to the exponent they multiply 1.0 by 2ᵏ.
        let bits = simd.transmute_u32s_f32s(shifted);
        let bits = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
        let scale = simd.add_u32s(bits, simd.splat_u32s(1.0_f32.to_bits()));
        (simd.transmute_f32s_u32s(scale), p)
    }
}

impl<S: Simd> Registers for Single<S> {
    type Scalar = f32;
    type Register = S::f32s;
    const LANES: usize = S::F32_LANES;
    const COUNT: usize = S::REGISTER_COUNT;

    #[inline(always)]
    fn view(numbers: &[f32]) -> &[S::f32s] {
        S::as_simd_f32s(numbers).0
    }

    #[inline(always)]
    fn view_mut(numbers: &mut [f32]) -> &mut [S::f32s] {
        S::as_mut_simd_f32s(numbers).0
    }

    #[inline(always)]
    fn splat(self, x: f32) -> S::f32s {
        self.0.splat_f32s(x)
    }

    #[inline(always)]
    fn add(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.add_f32s(a, b)
    }

    #[inline(always)]
    fn mul(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.mul_f32s(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        self.0.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn sub_mul(self, c: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.mul_add_f32s(self.0.neg_f32s(a), b, c)
    }

    #[inline(always)]
    fn sigmoid(self, x: S::f32s) -> S::f32s {
        let simd = self.0;
        let x = simd.neg_f32s(x);
        // In this order NaN stays NaN.
        let x = simd.max_f32s(simd.splat_f32s(EXP_RANGE.0), x);
        let x = simd.min_f32s(simd.splat_f32s(EXP_RANGE.1), x);
        let (scale, p) = self.exp(x);
        let one = simd.splat_f32s(1.0);
        let denominator = simd.add_f32s(one, simd.mul_add_f32s(scale, p, scale));
        simd.div_f32s(one, denominator)
    }

    #[inline(always)]
    fn flush(self, x: S::f32s) -> S::f32s {
        let simd = self.0;
        let is_tiny = simd.less_than_f32s(simd.abs_f32s(x), simd.splat_f32s(tiny()));
        simd.select_f32s(is_tiny, simd.splat_f32s(0.0), x)
    }

    #[inline(always)]
    fn tanh(self, x: S::f32s) -> S::f32s {
        let simd = self.0;
        let sign = simd.and_f32s(x, simd.splat_f32s(-0.0));
        // Minus the magnitude, twice.
        let y = simd.or_f32s(simd.add_f32s(x, x), simd.splat_f32s(-0.0));
        let y = simd.max_f32s(simd.splat_f32s(EXP_RANGE.0), y);
        let (scale, p) = self.exp(y);
        let below_1 = simd.sub_f32s(scale, simd.splat_f32s(1.0));
        let e = simd.mul_add_f32s(scale, p, below_1);
        let ratio = simd.div_f32s(e, simd.add_f32s(e, simd.splat_f32s(2.0)));
        // The ratio is not above zero: changing its sign where x is not below zero.
        let flip = simd.xor_f32s(sign, simd.splat_f32s(-0.0));
        simd.xor_f32s(ratio, flip)
    }
}

/// Numbers of any type in arrays.
#[derive(Clone, Copy)]
struct Portable<A>(PhantomData<A>);

const PORTABLE_LANES: usize = 4;

impl<A: Scalar> Registers for Portable<A> {
    type Scalar = A;
    type Register = [A; PORTABLE_LANES];
    const LANES: usize = PORTABLE_LANES;
    const COUNT: usize = 16;

    #[inline(always)]
    fn view(numbers: &[A]) -> &[Self::Register] {
        numbers.as_chunks().0
    }

    #[inline(always)]
    fn view_mut(numbers: &mut [A]) -> &mut [Self::Register] {
        numbers.as_chunks_mut().0
    }

    #[inline(always)]
    fn splat(self, x: A) -> Self::Register {
        [x; PORTABLE_LANES]
    }

    #[inline(always)]
    fn add(self, a: Self::Register, b: Self::Register) -> Self::Register {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn mul(self, a: Self::Register, b: Self::Register) -> Self::Register {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }

    #[inline(always)]
    fn sub_mul(self, c: Self::Register, a: Self::Register, b: Self::Register) -> Self::Register {
        std::array::from_fn(|lane| c[lane] - a[lane] * b[lane])
    }

    #[inline(always)]
    fn sigmoid(self, x: Self::Register) -> Self::Register {
        x.map(|x| A::one() / (A::one() + (-x).exp()))
    }

    #[inline(always)]
    fn tanh(self, x: Self::Register) -> Self::Register {
        x.map(|x| x.tanh())
    }

    #[inline(always)]
    fn flush(self, x: Self::Register) -> Self::Register {
        x.map(|x| if x.abs() < tiny() { A::zero() } else { x })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function in every lane of the best registers there are.
    struct Lanes<'a> {
        numbers: &'a mut [f32],
        tanh: bool,
    }

    impl Lanes<'_> {
        #[inline(always)]
        fn run<R: Registers<Scalar = f32>>(self, registers: R) {
            for x in R::view_mut(self.numbers) {
                *x = if self.tanh {
                    registers.tanh(*x)
                } else {
                    registers.sigmoid(*x)
                };
            }
        }
    }

    impl WithSimd for Lanes<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            if S::IS_SCALAR {
                self.run(Portable(PhantomData));
            } else {
                self.run(Single(simd));
            }
        }
    }

    fn of(numbers: &[f32], tanh: bool) -> Vec<f32> {
        let mut results = numbers.to_vec();
        // Whole registers of any size.
        results.resize(numbers.len().next_multiple_of(64), 0.0);
        let numbers = &mut results;
        Arch::new().dispatch(Lanes { numbers, tanh });
        results
    }

    fn at(x: f32, tanh: bool) -> f32 {
        of(&[x], tanh)[0]
    }

    #[test]
    fn single_precision_is_right_to_its_rounding() {
        // The whole range where the results are not constants.
        let numbers: Vec<_> = (-870_000..=870_000).map(|i| i as f32 * 1e-4).collect();
        // Three times the rounding unit for tanh, four times for sigmoid.
        for (tanh, bound) in [(true, 1.8e-7), (false, 2.4e-7)] {
            let mut worst = 0.0_f64;
            for (&x, found) in numbers.iter().zip(of(&numbers, tanh)) {
                let x = f64::from(x);
                let exact = if tanh {
                    x.tanh()
                } else {
                    1.0 / (1.0 + (-x).exp())
                };
                if exact != 0.0 {
                    worst = worst.max((f64::from(found) / exact - 1.0).abs());
                }
            }
            assert!(worst < bound, "tanh {tanh}: {worst:e}");
        }
    }

    #[test]
    fn extreme_inputs() {
        for x in [100.0, 1e30, f32::INFINITY] {
            assert_eq!(at(x, false), 1.0);
            assert!((0.0..1e-37).contains(&at(-x, false)));
            assert_eq!((at(x, true), at(-x, true)), (1.0, -1.0));
        }
        assert!(at(f32::NAN, false).is_nan() && at(f32::NAN, true).is_nan());
        assert_eq!(at(1e-30, true), 1e-30);
        assert_eq!(at(0.0, false), 0.5);
    }

    #[test]
    fn double_precision_is_the_standard_library() {
        let portable = Portable(PhantomData);
        assert_eq!(portable.tanh([0.3_f64; 4])[3], 0.3_f64.tanh());
        let expected = 1.0 / (1.0 + (-0.3_f64).exp());
        assert_eq!(portable.sigmoid([0.3_f64; 4])[3], expected);
    }
}
