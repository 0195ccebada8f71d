//! Layer normalisation over the last axis.
//!
//! ```text
//! μ = mean(x),   σ² = mean((x − μ)²),   z = (x − μ)/√(σ² + ε),   y = γ z + β
//! dγ = Σ_rows dy z,   dβ = Σ_rows dy
//! dz = γ dy,   dx = (dz − mean(dz) − z mean(dz z))/√(σ² + ε)
//! ```
//!
//! Means are taken over the features of one row.

use modalign_core::{Scalar, check_shape, impl_parameters};
use modalign_linalg::vectorized;
use ndarray::{Array1, Array2, ArrayBase, ArrayView2, Axis, CowArray, Data, Ix1};

use crate::dropout::DropoutMask;
use crate::error::{check_config, check_size};
use crate::lanes::sum_of;
use crate::parts::{ROWS, entries_mut, for_each_part};
use crate::pool::{copy, matrix};
use crate::{Fixed, NnError};

/// Layer normalisation and, at the same time, the type of its gradient.
///
/// ```text
/// y = γ (x − μ)/√(σ² + ε) + β
/// ```
///
/// with the mean μ and the biased variance σ² of each row.
///
/// ```
/// use modalign_nn::LayerNorm;
/// use ndarray::array;
///
/// let norm = LayerNorm::new(2, 1e-12)?;
/// let y = norm.infer(array![[1.0_f64, 3.0]].view())?;
/// assert!((y[[0, 0]] + 1.0).abs() < 1e-9 && (y[[0, 1]] - 1.0).abs() < 1e-9);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", 2016, arXiv 1607.06450.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm<A> {
    /// The scale γ `[D]`.
    pub weight: Array1<A>,
    /// The shift β `[D]`.
    pub bias: Array1<A>,
    epsilon: Fixed<A, f64>,
}
impl_parameters!(LayerNorm {
    weight,
    bias,
    epsilon
});

/// What the backward pass of [`LayerNorm`] needs.
#[derive(Debug)]
pub struct LayerNormCache<A> {
    normalized: Array2<A>,
    inverse_deviation: Array1<A>,
}

impl<A: Scalar> LayerNorm<A> {
    /// Scale 1 and shift 0 for `size` features. `epsilon`, above 0, bounds the divisor of a row
    /// without variance.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if either is outside its range.
    pub fn new(size: usize, epsilon: f64) -> Result<Self, NnError> {
        check_size("layer norm", "size", size)?;
        let holds = epsilon > 0.0 && epsilon.is_finite();
        check_config(holds, "layer norm", "epsilon", "above 0", epsilon)?;
        Ok(Self {
            weight: Array1::ones(size),
            bias: Array1::zeros(size),
            epsilon: Fixed::new(epsilon),
        })
    }

    /// `y [B, D]` for `x [B, D]`, and the cache of its backward pass.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `x` has another width.
    pub fn forward(&self, x: ArrayView2<A>) -> Result<(Array2<A>, LayerNormCache<A>), NnError> {
        self.forward_sum(standard(x), None)
    }

    /// As [`forward`](Self::forward), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: ArrayView2<A>) -> Result<Array2<A>, NnError> {
        self.infer_sum(standard(x), None)
    }

    /// As [`forward`](Self::forward), of the sum of `x`, in standard layout, and other addends.
    pub(crate) fn forward_sum(
        &self,
        mut x: Array2<A>,
        addends: Option<Addends<'_, A>>,
    ) -> Result<(Array2<A>, LayerNormCache<A>), NnError> {
        self.check("layer norm", "x", x.view(), x.nrows())?;
        let mut y = matrix(x.dim());
        let mut inverse_deviation = Array1::zeros(x.nrows());
        let width = x.ncols();
        let affine = self.affine();
        let [weight, bias] = affine.each_ref().map(contiguous);
        let inverses = inverse_deviation
            .as_slice_mut()
            .expect("new vectors are contiguous");
        let parts: Vec<_> = entries_mut(&mut x)
            .chunks_mut(ROWS * width)
            .zip(entries_mut(&mut y).chunks_mut(ROWS * width))
            .zip(inverses.chunks_mut(ROWS))
            .enumerate()
            .collect();
        for_each_part(
            parts.len() * ROWS * width,
            parts,
            |(part, ((x, y), inverses))| {
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = x.chunks_exact_mut(width).zip(y.chunks_exact_mut(width));
                        for (row, ((x, y), inverse)) in rows.zip(inverses).enumerate() {
                            if let Some(addends) = &addends {
                                addends.add(part * ROWS + row, x);
                            }
                            *inverse = self.normalize(x);
                            y.copy_from_slice(x);
                            scale_and_shift(y, weight, bias);
                        }
                    },
                );
            },
        );
        let cache = LayerNormCache {
            normalized: x,
            inverse_deviation,
        };
        Ok((y, cache))
    }

    /// As [`forward_sum`](Self::forward_sum), without a cache, in the memory of `x`.
    pub(crate) fn infer_sum(
        &self,
        mut x: Array2<A>,
        addends: Option<Addends<'_, A>>,
    ) -> Result<Array2<A>, NnError> {
        self.check("layer norm", "x", x.view(), x.nrows())?;
        let width = x.ncols();
        let affine = self.affine();
        let [weight, bias] = affine.each_ref().map(contiguous);
        let parts: Vec<_> = entries_mut(&mut x)
            .chunks_mut(ROWS * width)
            .enumerate()
            .collect();
        for_each_part(parts.len() * ROWS * width, parts, |(part, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, x) in x.chunks_exact_mut(width).enumerate() {
                        if let Some(addends) = &addends {
                            addends.add(part * ROWS + row, x);
                        }
                        self.normalize(x);
                        scale_and_shift(x, weight, bias);
                    }
                },
            );
        });
        Ok(x)
    }

    /// Adds the gradients of scale and shift to `grads` and returns `dx [B, D]`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` or `grads` does not fit; `grads` is then as it was.
    pub fn backward(
        &self,
        cache: LayerNormCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<Array2<A>, NnError> {
        let LayerNormCache {
            mut normalized,
            inverse_deviation,
        } = cache;
        let operation = "layer norm backward";
        self.check(operation, "dy", dy, normalized.nrows())?;
        let width = self.weight.shape();
        check_shape(operation, "grads.weight", grads.weight.shape(), width)?;
        check_shape(operation, "grads.bias", grads.bias.shape(), width)?;
        let dy = dy.as_standard_layout();
        let width = self.weight.len();
        // Of every part the gradients of scale and shift, added in the order of the parts.
        let parts = normalized.nrows().div_ceil(ROWS);
        let mut sums = Array2::zeros((parts, 2 * width));
        let dys = dy.as_slice().expect("its layout is standard");
        let inverses = contiguous(&inverse_deviation);
        let parts: Vec<_> = entries_mut(&mut normalized)
            .chunks_mut(ROWS * width)
            .zip(dys.chunks(ROWS * width))
            .zip(
                inverses
                    .chunks(ROWS)
                    .zip(entries_mut(&mut sums).chunks_mut(2 * width)),
            )
            .collect();
        let affine = self.affine();
        let [weight, _] = affine.each_ref().map(contiguous);
        let size = A::from_f64(width as f64);
        for_each_part(dys.len(), parts, |((z, dy), (inverses, sums))| {
            let mut dz = vec![A::zero(); width];
            vectorized(
                #[inline(always)]
                || {
                    let (dweight, dbias) = sums.split_at_mut(width);
                    let rows = z.chunks_exact_mut(width).zip(dy.chunks_exact(width));
                    for ((z, dy), &inverse) in rows.zip(inverses) {
                        dweight
                            .iter_mut()
                            .zip(z.iter().zip(dy))
                            .for_each(|(sum, (&z, &dy))| *sum += dy * z);
                        dbias.iter_mut().zip(dy).for_each(|(sum, &dy)| *sum += dy);
                        dz.iter_mut()
                            .zip(dy.iter().zip(weight))
                            .for_each(|(dz, (&dy, &weight))| *dz = dy * weight);
                        let mean = sum_of(&dz, &dz, |dz, _| dz) / size;
                        let projection = sum_of(&dz, z, |dz, z| dz * z) / size;
                        z.iter_mut()
                            .zip(&dz)
                            .for_each(|(z, &dz)| *z = (dz - mean - *z * projection) * inverse);
                    }
                },
            );
        });
        for sums in sums.rows() {
            let (dweight, dbias) = sums.split_at(Axis(0), width);
            grads.weight += &dweight;
            grads.bias += &dbias;
        }
        Ok(normalized)
    }

    /// The output that was cached.
    pub(crate) fn output(&self, cache: &LayerNormCache<A>) -> Array2<A> {
        let mut y = copy(cache.normalized.view());
        let width = y.ncols();
        let affine = self.affine();
        let [weight, bias] = affine.each_ref().map(contiguous);
        let parts: Vec<_> = entries_mut(&mut y).chunks_mut(ROWS * width).collect();
        for_each_part(parts.len() * ROWS * width, parts, |y| {
            vectorized(
                #[inline(always)]
                || {
                    for y in y.chunks_exact_mut(width) {
                        scale_and_shift(y, weight, bias);
                    }
                },
            );
        });
        y
    }

    fn check(
        &self,
        operation: &'static str,
        operand: &'static str,
        x: ArrayView2<A>,
        rows: usize,
    ) -> Result<(), NnError> {
        let expected = [rows, self.weight.len()];
        check_shape(operation, operand, x.shape(), &expected)?;
        check_shape(operation, "bias", self.bias.shape(), &expected[1..])?;
        Ok(())
    }

    fn affine(&self) -> [CowArray<'_, A, Ix1>; 2] {
        [&self.weight, &self.bias].map(|vector| vector.as_standard_layout())
    }

    /// Turns a row into `z` and returns `1/√(σ² + ε)`.
    #[inline(always)]
    fn normalize(&self, x: &mut [A]) -> A {
        let size = A::from_f64(x.len() as f64);
        let mean = sum_of(x, x, |x, _| x) / size;
        x.iter_mut().for_each(|x| *x -= mean);
        let variance = sum_of(x, x, |x, _| x * x) / size;
        let inverse = (variance + A::from_f64(*self.epsilon)).sqrt().recip();
        x.iter_mut().for_each(|x| *x *= inverse);
        inverse
    }
}

/// What is added to the input of a normalisation: after dropout of the input and its bias, `residual`.
#[derive(Clone, Copy)]
pub(crate) struct Addends<'a, A> {
    pub bias: &'a [A],
    pub mask: DropoutMask,
    /// In standard layout, of the shape of the input.
    pub residual: &'a [A],
}

impl<A: Scalar> Addends<'_, A> {
    #[inline(always)]
    fn add(&self, row: usize, x: &mut [A]) {
        x.iter_mut()
            .zip(self.bias)
            .for_each(|(x, &bias)| *x += bias);
        self.mask.scale(row, x);
        let residual = &self.residual[row * x.len()..][..x.len()];
        x.iter_mut()
            .zip(residual)
            .for_each(|(x, &residual)| *x += residual);
    }
}

fn contiguous<A>(vector: &ArrayBase<impl Data<Elem = A>, Ix1>) -> &[A] {
    vector.as_slice().expect("its layout is standard")
}

fn standard<A: Scalar>(x: ArrayView2<A>) -> Array2<A> {
    x.as_standard_layout().into_owned()
}

/// `z γ + β`
#[inline(always)]
fn scale_and_shift<A: Scalar>(z: &mut [A], weight: &[A], bias: &[A]) {
    for (z, (&weight, &bias)) in z.iter_mut().zip(weight.iter().zip(bias)) {
        *z = *z * weight + bias;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_additive, check_input, check_parameters, random, rng};
    use approx::assert_relative_eq;
    use modalign_core::Parameters;
    use ndarray::array;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(
            rows in 1_usize..4,
            size in 1_usize..6,
            exponent in -3.0..1.0_f64,
            seed: u64,
        ) {
            let mut rng = rng(seed);
            let mut layer = LayerNorm::new(size, 10_f64.powf(exponent)).unwrap();
            layer.weight = random(size, &mut rng);
            layer.bias = random(size, &mut rng);
            let x = random((rows, size), &mut rng);
            let dy = random((rows, size), &mut rng);
            let mut grads = layer.zeros_like();
            let (_, cache) = layer.forward(x.view()).unwrap();
            let dx = layer.backward(cache, dy.view(), &mut grads).unwrap();
            check_input("dx", &x, &dx, &dy, |x| layer.infer(x.view()).unwrap());
            check_parameters(&layer, &grads, &dy, |layer| layer.infer(x.view()).unwrap());
            assert_additive(&layer, &grads, |grads| {
                let (_, cache) = layer.forward(x.view()).unwrap();
                layer.backward(cache, dy.view(), grads).unwrap();
            });
        }
    }

    #[test]
    fn a_constant_row_gives_the_shift() {
        let mut layer = LayerNorm::<f32>::new(3, 1e-5).unwrap();
        layer.bias = array![1.0, 2.0, 3.0];
        let y = layer.infer(array![[7.0, 7.0, 7.0]].view()).unwrap();
        assert_eq!(y, array![[1.0, 2.0, 3.0]]);
        assert!(
            layer
                .named_views()
                .iter()
                .all(|(name, _)| name != "epsilon")
        );
    }

    #[test]
    fn a_large_offset_costs_no_more_than_its_own_rounding() {
        let layer = LayerNorm::<f64>::new(4, 1e-12).unwrap();
        let x = array![[1.0, 2.0, 3.0, 5.0]];
        let near = layer.infer(x.view()).unwrap();
        let far = layer.infer((x + 1e8).view()).unwrap();
        assert_relative_eq!(near, far, max_relative = 1e-7);
    }

    #[test]
    fn values_outside_the_range_are_refused() {
        for (size, epsilon, expected) in [(0, 1e-5, "size"), (3, 0.0, "epsilon")] {
            let error = LayerNorm::<f64>::new(size, epsilon).unwrap_err();
            assert!(matches!(error, NnError::Config { parameter, .. } if parameter == expected));
        }
    }
}
