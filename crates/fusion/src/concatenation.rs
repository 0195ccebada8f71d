//! Concatenation, the fusion of the published method.
//!
//! ```text
//! z = [r_1 r_2 … r_M],   dr_s = the columns of dz that r_s filled
//! ```

use modalign_core::{Scalar, check_shape, resize};
use ndarray::{Array2, ArrayView2, Axis};

use crate::FusionError;

/// Puts representations side by side. Nothing is trained.
///
/// ```
/// use modalign_fusion::Concatenation;
/// use ndarray::array;
///
/// let text = array![[1.0, 2.0]];
/// let audio = array![[3.0]];
/// let (z, cache) = Concatenation.forward(&[text.view(), audio.view()])?;
/// assert_eq!(z, array![[1.0, 2.0, 3.0]]);
/// let gradients = Concatenation.backward(cache, array![[4.0, 5.0, 6.0]].view())?;
/// assert_eq!(gradients, [array![[4.0, 5.0]], array![[6.0]]]);
/// # Ok::<(), modalign_fusion::FusionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concatenation;

/// What the backward pass of [`Concatenation`] needs: the widths.
#[derive(Debug)]
pub struct ConcatenationCache {
    rows: usize,
    widths: Vec<usize>,
}

impl Concatenation {
    /// `[B, Σ D_s]` for representations `[B, D_s]`, and the cache of the backward pass.
    ///
    /// # Errors
    ///
    /// [`FusionError::Empty`] without any representation, [`FusionError::Shape`] if they differ in
    /// their number of rows.
    pub fn forward<A: Scalar>(
        self,
        representations: &[ArrayView2<A>],
    ) -> Result<(Array2<A>, ConcatenationCache), FusionError> {
        let z = self.infer(representations)?;
        let widths = representations.iter().map(|one| one.ncols()).collect();
        let rows = z.nrows();
        Ok((z, ConcatenationCache { rows, widths }))
    }

    /// As [`forward`](Self::forward), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer<A: Scalar>(
        self,
        representations: &[ArrayView2<A>],
    ) -> Result<Array2<A>, FusionError> {
        let mut z = Array2::zeros((0, 0));
        self.infer_into(representations.iter().map(|one| one.view()), &mut z)?;
        Ok(z)
    }

    /// As [`infer`](Self::infer), into `z`, which takes the shape of the result in the memory it has.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_into<'a, A: Scalar>(
        self,
        representations: impl Iterator<Item = ArrayView2<'a, A>> + Clone,
        z: &mut Array2<A>,
    ) -> Result<(), FusionError> {
        let Some(first) = representations.clone().next() else {
            return Err(FusionError::Empty);
        };
        let width = representations.clone().map(|one| one.ncols()).sum();
        resize(z, (first.nrows(), width));
        let mut rest = z.view_mut();
        for one in representations {
            let expected = [first.nrows(), one.ncols()];
            check_shape("concatenation", "representation", one.shape(), &expected)?;
            let (mut part, remaining) = rest.split_at(Axis(1), one.ncols());
            part.assign(&one);
            rest = remaining;
        }
        Ok(())
    }

    /// The gradient `[B, D_s]` of each representation.
    ///
    /// # Errors
    ///
    /// [`FusionError::Shape`] if `dz` has another shape than the output had.
    pub fn backward<A: Scalar>(
        self,
        cache: ConcatenationCache,
        dz: ArrayView2<A>,
    ) -> Result<Vec<Array2<A>>, FusionError> {
        let expected = [cache.rows, cache.widths.iter().sum()];
        check_shape("concatenation backward", "dz", dz.shape(), &expected)?;
        let mut rest = dz;
        Ok(cache
            .widths
            .into_iter()
            .map(|width| {
                let (part, remaining) = rest.split_at(Axis(1), width);
                rest = remaining;
                part.to_owned()
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modalign_gradcheck::{check_gradient, contract};
    use ndarray::Array2;
    use proptest::prelude::*;

    fn matrix(rows: usize, width: usize, seed: usize) -> Array2<f64> {
        Array2::from_shape_fn((rows, width), |(row, column)| {
            ((seed + 7 * row + 3 * column) as f64).sin()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn gradients_agree_with_differences(
            rows in 1_usize..5,
            widths in proptest::collection::vec(1_usize..4, 1..4),
        ) {
            let parts: Vec<_> = widths
                .iter()
                .enumerate()
                .map(|(seed, &width)| matrix(rows, width, seed))
                .collect();
            let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
            let (z, cache) = Concatenation.forward(&views).unwrap();
            let cotangent = matrix(rows, z.ncols(), 11);
            let gradients = Concatenation.backward(cache, cotangent.view()).unwrap();
            for (index, gradient) in gradients.iter().enumerate() {
                check_gradient("representation", &parts[index], gradient, |changed| {
                    let mut views = views.clone();
                    views[index] = changed.view();
                    contract(&Concatenation.infer(&views).unwrap(), &cotangent)
                })
                .unwrap();
            }
        }
    }

    #[test]
    fn rows_must_agree() {
        let (two, three) = (matrix(2, 1, 0), matrix(3, 1, 0));
        let error = Concatenation
            .infer(&[two.view(), three.view()])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "concatenation: representation has shape [3, 1], expected [2, 1]"
        );
        assert_eq!(
            Concatenation.infer::<f32>(&[]).unwrap_err(),
            FusionError::Empty
        );
    }
}
