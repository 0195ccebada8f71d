//! Run-time choice of the instruction set for loops that the compiler vectorises.

/// Runs `kernel` compiled for the best vector instructions this processor has.
///
/// Loops in `kernel` use no fused multiply-add that they do not spell out, so the instruction set
/// changes the speed and never the result. What it calls has to be inlined to gain by it, a closure
/// within by `#[inline(always)]`.
///
/// # Examples
///
/// ```
/// let mut x = [1.0, 2.0, 3.0];
/// modalign_linalg::vectorized(|| x.iter_mut().for_each(|x| *x *= 2.0));
/// assert_eq!(x, [2.0, 4.0, 6.0]);
/// ```
#[inline(always)]
pub fn vectorized<R>(kernel: impl FnOnce() -> R) -> R {
    struct Kernel<F>(F);
    impl<F: FnOnce() -> R, R> pulp::NullaryFnOnce for Kernel<F> {
        type Output = R;

        #[inline(always)]
        fn call(self) -> R {
            self.0()
        }
    }
    pulp::Arch::new().dispatch(Kernel(kernel))
}
