//! The fully connected layer.
//!
//! ```text
//! y = x Wᵀ + b
//! dx = dy W,   dW = dyᵀ x,   db = Σ_rows dy
//! ```

use std::ops::Range;

use modalign_core::{Scalar, check_shape, impl_parameters, resize};
use modalign_linalg::gemm;
use ndarray::{Array1, Array2, ArrayView2, s};
use rand::Rng;

use crate::NnError;
use crate::error::check_size;
use crate::init::uniform;
use crate::parts::add_column_sums;

/// A fully connected layer and, at the same time, the type of its gradient.
///
/// ```text
/// y = x Wᵀ + b
/// ```
///
/// ```
/// use modalign_core::Parameters;
/// use modalign_nn::Linear;
/// use ndarray::array;
///
/// let linear = Linear { weight: array![[1.0, 2.0]], bias: array![0.5] };
/// let (y, cache) = linear.forward(array![[3.0, 4.0]].view())?;
/// assert_eq!(y, array![[11.5]]);
///
/// let mut grads = linear.zeros_like();
/// let dx = linear.backward(cache, array![[2.0]].view(), &mut grads)?;
/// assert_eq!(dx, array![[2.0, 4.0]]);
/// assert_eq!(grads.weight, array![[6.0, 8.0]]);
/// assert_eq!(grads.bias, array![2.0]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// A cache serves one backward pass:
///
/// ```compile_fail
/// # use modalign_core::Parameters;
/// # use modalign_nn::Linear;
/// # use ndarray::array;
/// # let linear = Linear { weight: array![[1.0, 2.0]], bias: array![0.5] };
/// # let (_, cache) = linear.forward(array![[3.0, 4.0]].view()).unwrap();
/// # let mut grads = linear.zeros_like();
/// linear.backward(cache, array![[2.0]].view(), &mut grads).unwrap();
/// linear.backward(cache, array![[2.0]].view(), &mut grads).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Linear<A> {
    /// `W [output, input]`.
    pub weight: Array2<A>,
    /// `b [output]`.
    pub bias: Array1<A>,
}
impl_parameters!(Linear { weight, bias });

/// What the backward pass of [`Linear`] needs.
#[derive(Debug)]
pub struct LinearCache<A> {
    x: Array2<A>,
}

impl<A: Scalar> Linear<A> {
    /// Draws weights and biases uniformly from ±1/√input, as PyTorch does.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if a size is 0.
    pub fn new(input_size: usize, output_size: usize, rng: &mut impl Rng) -> Result<Self, NnError> {
        for (parameter, size) in [("input_size", input_size), ("output_size", output_size)] {
            check_size("linear", parameter, size)?;
        }
        let bound = 1.0 / (input_size as f64).sqrt();
        Ok(Self {
            weight: uniform((output_size, input_size), bound, rng),
            bias: uniform(output_size, bound, rng),
        })
    }

    /// The number of inputs.
    pub fn input_size(&self) -> usize {
        self.weight.ncols()
    }

    /// The number of outputs.
    pub fn output_size(&self) -> usize {
        self.weight.nrows()
    }

    /// `y [B, output]` for `x [B, input]`, and the cache of its backward pass.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `x` has another width.
    pub fn forward(&self, x: ArrayView2<A>) -> Result<(Array2<A>, LinearCache<A>), NnError> {
        let y = self.infer(x)?;
        Ok((y, LinearCache { x: x.to_owned() }))
    }

    /// As [`forward`](Self::forward), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: ArrayView2<A>) -> Result<Array2<A>, NnError> {
        let mut y = Array2::zeros((0, 0));
        self.infer_into(x, &mut y)?;
        Ok(y)
    }

    /// As [`infer`](Self::infer), into `y`, which takes the shape of the result in the memory it has.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_into(&self, x: ArrayView2<A>, y: &mut Array2<A>) -> Result<(), NnError> {
        let expected = [x.nrows(), self.input_size()];
        check_shape("linear", "x", x.shape(), &expected)?;
        check_shape("linear", "bias", self.bias.shape(), &[self.output_size()])?;
        resize(y, (x.nrows(), self.output_size()));
        y.assign(&self.bias);
        gemm(A::one(), &x, &self.weight.t(), A::one(), y)?;
        Ok(())
    }

    /// Adds the gradients of weight and bias to `grads` and returns `dx [B, input]`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` or `grads` does not fit; `grads` is then as it was.
    pub fn backward(
        &self,
        cache: LinearCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<Array2<A>, NnError> {
        let mut dx = Array2::zeros((0, 0));
        self.backward_into(cache.x.view(), dy, grads, &mut dx)?;
        Ok(dx)
    }

    /// As [`backward`](Self::backward) for the input `x` that the caller has kept, into `dx`, which
    /// takes the shape of the result in the memory it has.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_into(
        &self,
        x: ArrayView2<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
        dx: &mut Array2<A>,
    ) -> Result<(), NnError> {
        let mut products = || self.input_gradient_into(dy, 0, dx);
        if !WORTH_THREADS.contains(&(x.len() * self.output_size())) {
            self.add_gradients(x, dy, grads)?;
            return products();
        }
        self.check_backward(x, dy, grads)?;
        let (added, multiplied) = rayon::join(|| self.add_gradients(x, dy, grads), products);
        added.and(multiplied)
    }

    /// The columns of `dx` from `first` on, `[B, input − first]`, for a layer whose first inputs are
    /// data, into an array that takes the shape of the result in the memory it has.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` does not fit or there is no column `first`.
    pub fn input_gradient_into(
        &self,
        dy: ArrayView2<A>,
        first: usize,
        dx: &mut Array2<A>,
    ) -> Result<(), NnError> {
        let (rows, inputs) = (dy.nrows(), self.input_size());
        let expected = [rows, self.output_size()];
        check_shape("linear backward", "dy", dy.shape(), &expected)?;
        let last = first.min(inputs);
        check_shape("linear backward", "columns", &[first], &[last])?;
        resize(dx, (rows, inputs - first));
        let weight = self.weight.slice(s![.., first..]);
        gemm(A::one(), &dy, &weight, A::zero(), dx)?;
        Ok(())
    }

    /// As [`backward`](Self::backward) without `dx`, for a layer whose input is data.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_parameters(
        &self,
        cache: LinearCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), NnError> {
        self.add_gradients(cache.x.view(), dy, grads)
    }

    /// As [`backward_parameters`](Self::backward_parameters) for the input `x` that the caller has
    /// kept.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn add_gradients(
        &self,
        x: ArrayView2<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), NnError> {
        self.check_backward(x, dy, grads)?;
        gemm(A::one(), &dy.t(), &x, A::one(), &mut grads.weight)?;
        add_column_sums(dy, &mut grads.bias);
        Ok(())
    }

    fn check_backward(
        &self,
        x: ArrayView2<A>,
        dy: ArrayView2<A>,
        grads: &Self,
    ) -> Result<(), NnError> {
        let expected = [dy.nrows(), self.input_size()];
        check_shape("linear backward", "x", x.shape(), &expected)?;
        let expected = [x.nrows(), self.output_size()];
        check_shape("linear backward", "dy", dy.shape(), &expected)?;
        let (weight, bias) = (self.weight.shape(), self.bias.shape());
        let operand = "grads.weight";
        check_shape("linear backward", operand, grads.weight.shape(), weight)?;
        check_shape("linear backward", "grads.bias", grads.bias.shape(), bias)?;
        Ok(())
    }
}

/// Multiply-adds of a product that pay for handing the other one to a second thread, and are too few
/// for both to be split between threads.
const WORTH_THREADS: Range<usize> = 1 << 20..1 << 23;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_additive, check_input, check_parameters, random, rng};
    use ndarray::array;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(
            rows in 1_usize..5,
            input in 1_usize..5,
            output in 1_usize..5,
            seed: u64,
        ) {
            let mut rng = rng(seed);
            let layer = Linear::<f64>::new(input, output, &mut rng).unwrap();
            let x = random((rows, input), &mut rng);
            let dy = random((rows, output), &mut rng);
            let mut grads = modalign_core::Parameters::zeros_like(&layer);
            let (y, cache) = layer.forward(x.view()).unwrap();
            prop_assert_eq!(&y, &layer.infer(x.view()).unwrap());
            let dx = layer.backward(cache, dy.view(), &mut grads).unwrap();
            check_input("dx", &x, &dx, &dy, |x| layer.infer(x.view()).unwrap());
            check_parameters(&layer, &grads, &dy, |layer| layer.infer(x.view()).unwrap());
            assert_additive(&layer, &grads, |grads| {
                let (_, cache) = layer.forward(x.view()).unwrap();
                layer.backward_parameters(cache, dy.view(), grads).unwrap();
            });
        }
    }

    #[test]
    fn value_stability() {
        let layer = Linear::<f32>::new(4, 1, &mut rng(1)).unwrap();
        let weight = array![[-0.09751434, -0.41961628, 0.09656018, -0.2806754]];
        assert_eq!(layer.weight, weight);
        assert_eq!(layer.bias, array![-0.21630941]);
        assert!(layer.weight.iter().all(|weight| weight.abs() <= 0.5));
    }

    #[test]
    fn wrong_shapes_are_named() {
        let layer = Linear::<f32>::new(3, 2, &mut rng(1)).unwrap();
        let error = layer.infer(Array2::zeros((4, 2)).view()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "linear: x has shape [4, 2], expected [4, 3]"
        );
        let (_, cache) = layer.forward(Array2::zeros((4, 3)).view()).unwrap();
        let mut grads = layer.clone();
        let error = layer
            .backward(cache, Array2::zeros((4, 3)).view(), &mut grads)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("dy has shape [4, 3], expected [4, 2]")
        );
        assert!(matches!(
            Linear::<f32>::new(0, 2, &mut rng(1)),
            Err(NnError::Config {
                parameter: "input_size",
                ..
            })
        ));
    }
}
