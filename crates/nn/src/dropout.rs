//! Inverted dropout.
//!
//! ```text
//! y = m x / (1 − rate),   m ~ Bernoulli(1 − rate) for every entry
//! ```

use modalign_core::{Scalar, check_shape, resize};
use ndarray::{Array, Array2, Dimension, Ix2, Zip, s};
use rand::{Rng, RngExt};

use crate::NnError;
use crate::error::check_config;

/// Sets entries to zero at random in training and scales the others so that the expectation stays.
///
/// ```
/// use modalign_core::{Stream, rng};
/// use modalign_nn::Dropout;
/// use ndarray::Array1;
///
/// let dropout = Dropout::new(0.5)?;
/// let (y, _) = dropout.forward(Array1::<f64>::ones(1000), &mut rng(1, Stream::Dropout));
/// assert!(y.iter().all(|&y| y == 0.0 || y == 2.0));
/// assert!((y.sum() - 1000.0).abs() < 100.0);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: a simple
/// way to prevent neural networks from overfitting", 2014.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    rate: f64,
}

/// What the backward pass of [`Dropout`] needs: the factor of every entry, absent at rate 0.
#[derive(Debug)]
pub struct DropoutCache<A, D: Dimension>(Option<Array<A, D>>);

impl Dropout {
    /// A layer that drops each entry with probability `rate`, in [0, 1).
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if `rate` is outside its range.
    pub fn new(rate: f64) -> Result<Self, NnError> {
        let holds = (0.0..1.0).contains(&rate);
        check_config(holds, "dropout", "rate", "in [0, 1)", rate)?;
        Ok(Self { rate })
    }

    /// `y`, of the shape of `x`, and the cache of its backward pass. At rate 0 nothing is drawn.
    pub fn forward<A: Scalar, D: Dimension>(
        self,
        mut x: Array<A, D>,
        rng: &mut impl Rng,
    ) -> (Array<A, D>, DropoutCache<A, D>) {
        let mut cache = DropoutCache::default();
        self.draw(x.raw_dim(), rng, &mut cache);
        cache.multiply(&mut x);
        (x, cache)
    }

    /// Draws what [`forward`](Self::forward) draws for an input of this shape, into a cache whose
    /// memory is used again; [`DropoutCache::apply`] is the rest.
    pub fn draw<A: Scalar, D: Dimension>(
        self,
        shape: D,
        rng: &mut impl Rng,
        cache: &mut DropoutCache<A, D>,
    ) {
        if self.rate == 0.0 {
            cache.0 = None;
            return;
        }
        let scale = A::from_f64(1.0 / (1.0 - self.rate));
        let factors = cache.0.get_or_insert_default();
        resize(factors, shape);
        for factor in factors {
            *factor = if rng.random::<f64>() < self.rate {
                A::zero()
            } else {
                scale
            };
        }
    }

    /// Returns `x` as it is: at inference nothing is dropped.
    pub fn infer<A: Scalar, D: Dimension>(self, x: Array<A, D>) -> Array<A, D> {
        x
    }

    /// `dx`, of the shape of `dy`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` has another shape than the output had.
    pub fn backward<A: Scalar, D: Dimension>(
        self,
        cache: DropoutCache<A, D>,
        dy: Array<A, D>,
    ) -> Result<Array<A, D>, NnError> {
        let mut dx = dy;
        cache.apply(&mut dx)?;
        Ok(dx)
    }
}

impl<A: Scalar> DropoutCache<A, Ix2> {
    /// As [`apply`](Self::apply) for the columns from `first` on alone.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_columns(&self, first: usize, x: &mut Array2<A>) -> Result<(), NnError> {
        if let Self(Some(factors)) = self {
            let (rows, columns) = factors.dim();
            let expected = [rows, columns.saturating_sub(first)];
            check_shape("dropout", "x", x.shape(), &expected)?;
            if first <= columns {
                *x *= &factors.slice(s![.., first..]);
            }
        }
        Ok(())
    }
}

impl<A, D: Dimension> Default for DropoutCache<A, D> {
    fn default() -> Self {
        Self(None)
    }
}

impl<A: Scalar, D: Dimension> DropoutCache<A, D> {
    /// Multiplies by the factors that were drawn: the pass forward, and the pass backward.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if they were drawn for another shape.
    pub fn apply(&self, x: &mut Array<A, D>) -> Result<(), NnError> {
        if let Self(Some(factors)) = self {
            check_shape("dropout", "x", x.shape(), factors.shape())?;
        }
        self.multiply(x);
        Ok(())
    }

    /// As [`apply`](Self::apply), for a layer that needs its dropped input again.
    pub(crate) fn scale(&self, mut x: Array<A, D>) -> Array<A, D> {
        self.multiply(&mut x);
        x
    }

    fn multiply(&self, x: &mut Array<A, D>) {
        if let Self(Some(factors)) = self {
            Zip::from(x)
                .and(factors)
                .for_each(|x, &factor| *x *= factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_input, random, rng};
    use ndarray::{Array1, array};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(rows in 1_usize..4, columns in 1_usize..4, rate in 0.0..0.95, seed: u64) {
            let x = random((rows, columns), &mut rng(seed));
            let dy = random((rows, columns), &mut rng(seed ^ 1));
            let dropout = Dropout::new(rate).unwrap();
            let (_, cache) = dropout.forward(x.clone(), &mut rng(seed));
            let dx = dropout.backward(cache, dy.clone()).unwrap();
            check_input("dx", &x, &dx, &dy, |x| dropout.forward(x.clone(), &mut rng(seed)).0);
        }
    }

    #[test]
    fn keeps_the_expectation() {
        for rate in [0.1, 0.5, 0.9] {
            let dropout = Dropout::new(rate).unwrap();
            let (y, _) = dropout.forward(Array1::<f64>::ones(20_000), &mut rng(7));
            // Five standard deviations of the mean.
            let tolerance = 5.0 * (rate / (1.0 - rate) / 20_000.0).sqrt();
            assert!((y.sum() / 20_000.0 - 1.0).abs() < tolerance, "{rate}");
        }
    }

    #[test]
    fn rate_zero_is_the_identity_and_draws_nothing() {
        let mut generator = rng(7);
        let dropout = Dropout::new(0.0).unwrap();
        let (y, cache) = dropout.forward(array![1.0_f32, 2.0], &mut generator);
        assert_eq!(y, array![1.0, 2.0]);
        assert_eq!(
            dropout.backward(cache, array![3.0, 4.0]).unwrap(),
            array![3.0, 4.0]
        );
        assert_eq!(generator, rng(7));
        assert_eq!(
            Dropout::new(0.5).unwrap().infer(array![1.0_f32]),
            array![1.0]
        );
    }

    #[test]
    fn value_stability() {
        let (y, _) = Dropout::new(0.5)
            .unwrap()
            .forward(Array1::<f32>::ones(8), &mut rng(1));
        assert_eq!(y, array![0.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn rates_outside_the_range_are_refused() {
        for rate in [-0.1, 1.0, f64::NAN] {
            assert!(matches!(
                Dropout::new(rate),
                Err(NnError::Config {
                    operation: "dropout",
                    parameter: "rate",
                    ..
                })
            ));
        }
    }
}
