//! Inverted dropout.
//!
//! ```text
//! y = m x / (1 − rate),   m ~ Bernoulli(1 − rate) for every entry
//! ```

use modalign_core::{Scalar, check_shape, resize};
use modalign_linalg::vectorized;
use ndarray::{Array, Array2, Dimension, Ix2, Zip, s};
use rand::Rng;

use crate::NnError;
use crate::error::check_config;
use crate::lanes::{LANES, load, store};
use crate::parts::{ROWS, entries_mut, for_each_part};
use crate::philox::{WORDS, philox};
use crate::pool::copy;

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

/// The factors of a dropout as a function of a key and a place: nothing is stored, threads take
/// rows in any order, and whoever has the mask can have the factors again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DropoutMask(Option<Draw>);

#[derive(Debug, Clone, Copy)]
struct Draw {
    key: [u32; 2],
    /// A word below this drops its entry.
    dropped: u32,
    scale: f64,
}

/// Factors that are drawn together.
const DRAWN: usize = 64;

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
        // The comparison of `rng.random::<f64>()` with the rate, in whole numbers.
        let dropped = (self.rate * 2_f64.powi(53)).ceil() as u64;
        let mut words = [[0; size_of::<u64>()]; DRAWN];
        let factors = factors.as_slice_memory_order_mut();
        vectorized(
            #[inline(always)]
            || {
                for factors in factors.unwrap_or_default().chunks_mut(DRAWN) {
                    let words = &mut words[..factors.len()];
                    rng.fill_bytes(words.as_flattened_mut());
                    for (factor, word) in factors.iter_mut().zip(words) {
                        let word = u64::from_le_bytes(*word) >> 11;
                        *factor = if word < dropped { A::zero() } else { scale };
                    }
                }
            },
        );
    }

    /// Draws the key of a mask. At rate 0 nothing is drawn.
    pub(crate) fn mask(self, rng: &mut impl Rng) -> DropoutMask {
        DropoutMask((self.rate > 0.0).then(|| Draw {
            key: [rng.next_u32(), rng.next_u32()],
            dropped: (self.rate * 2_f64.powi(32)) as u32,
            scale: 1.0 / (1.0 - self.rate),
        }))
    }

    /// Returns `x` as it is: at inference nothing is dropped.
    pub fn infer<A: Scalar, D: Dimension>(self, x: Array<A, D>) -> Array<A, D> {
        x
    }

    /// `dx`, of the shape of `dy`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` has another shape than the output had and the rate is above 0.
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

impl DropoutMask {
    /// Nothing is dropped.
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The rows of `x`, which has standard layout, times their factors.
    pub(crate) fn scaled<A: Scalar>(&self, x: &Array2<A>) -> Array2<A> {
        let mut x = copy(x.view());
        if self.is_none() {
            return x;
        }
        let width = x.ncols();
        let parts: Vec<_> = entries_mut(&mut x)
            .chunks_mut(ROWS * width)
            .enumerate()
            .collect();
        for_each_part(parts.len() * ROWS * width, parts, |(part, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, x) in x.chunks_exact_mut(width).enumerate() {
                        self.scale(part * ROWS + row, x);
                    }
                },
            );
        });
        x
    }

    /// Multiplies the entries of a row by their factors.
    #[inline(always)]
    pub(crate) fn scale<A: Scalar>(&self, row: usize, x: &mut [A]) {
        let Some(draw) = self.0 else {
            return;
        };
        let scale = A::from_f64(draw.scale);
        let mut counter = [[0; LANES]; WORDS];
        counter[1] = [row as u32; LANES];
        counter[2] = [(row as u64 >> 32) as u32; LANES];
        for (group, x) in x.chunks_mut(WORDS * LANES).enumerate() {
            for (lane, place) in counter[0].iter_mut().enumerate() {
                *place = (group * LANES + lane) as u32;
            }
            let words = philox(counter, draw.key);
            for (x, words) in x.chunks_mut(LANES).zip(&words) {
                let mut lanes = load(x);
                for (x, &word) in lanes.iter_mut().zip(words) {
                    *x *= if word < draw.dropped {
                        A::zero()
                    } else {
                        scale
                    };
                }
                store(&lanes, x);
            }
        }
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
    use rand::RngExt;

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
    fn a_mask_is_a_function_of_key_and_place() {
        for rate in [0.1, 0.5, 0.9] {
            let dropout = Dropout::new(rate).unwrap();
            let mask = dropout.mask(&mut rng(7));
            let rows: Vec<Vec<f64>> = (0..200)
                .map(|row| {
                    let mut x = vec![1.0; 100];
                    mask.scale(row, &mut x);
                    x
                })
                .collect();
            let sum: f64 = rows.iter().flatten().sum();
            // Five standard deviations of the mean.
            let tolerance = 5.0 * (rate / (1.0 - rate) / 20_000.0).sqrt();
            assert!((sum / 20_000.0 - 1.0).abs() < tolerance, "{rate}");
            let mut again = vec![1.0; 70];
            mask.scale(3, &mut again);
            assert_eq!(again, rows[3][..70]);
            assert_ne!(rows[3], rows[4]);
            let mut other = vec![1.0; 100];
            dropout.mask(&mut rng(8)).scale(3, &mut other);
            assert_ne!(other, rows[3]);
            // Neighbours in a row and in a column are dropped independently of each other.
            let both = |step: usize, down: usize| {
                let pairs = (0..199).flat_map(|row| (0..99).map(move |x| (row, x)));
                let dropped = pairs
                    .filter(|&(row, x)| rows[row][x] == 0.0 && rows[row + down][x + step] == 0.0);
                dropped.count() as f64 / (199.0 * 99.0)
            };
            for found in [both(1, 0), both(0, 1)] {
                let expected = rate * rate;
                let deviation = (expected * (1.0 - expected) / (199.0 * 99.0)).sqrt();
                assert!(
                    (found - expected).abs() < 6.0 * deviation,
                    "{rate}: {found}"
                );
            }
        }
    }

    #[test]
    fn mask_stability() {
        let mut x = [1.0_f32; 8];
        Dropout::new(0.5)
            .unwrap()
            .mask(&mut rng(1))
            .scale(0, &mut x);
        assert_eq!(x, [0.0, 0.0, 2.0, 2.0, 0.0, 2.0, 0.0, 2.0]);
        let mut generator = rng(7);
        assert!(Dropout::new(0.0).unwrap().mask(&mut generator).is_none());
        assert_eq!(generator, rng(7));
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
    fn factors_are_those_of_numbers_drawn_one_by_one() {
        for (rate, count) in [(0.1, 1000), (0.5, 63), (0.3, 129), (1e-9, 65)] {
            let (mut drawn, mut expected) = (rng(3), rng(3));
            let (y, _) = Dropout::new(rate)
                .unwrap()
                .forward(Array1::<f64>::ones(count), &mut drawn);
            for (place, &y) in y.iter().enumerate() {
                let dropped = expected.random::<f64>() < rate;
                assert_eq!(y == 0.0, dropped, "{rate}, {place}");
            }
            assert_eq!(drawn, expected);
        }
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
