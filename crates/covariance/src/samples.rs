//! The centred modalities of one group, as every distance reads them.

use std::slice;

use modalign_core::Scalar;
use modalign_linalg::{Operand, column_means, scatter};
use ndarray::{Array1, Array2, ArrayView2};

use crate::covariances::estimate_covariance;
use crate::{Batch, CovarianceError, RunningCovariance, workspace::Workspace};

/// One pair of a group. Its modalities are positions in the group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupPair {
    pub(crate) first: usize,
    pub(crate) second: usize,
}

impl GroupPair {
    /// The other modality of the pair, if `member` is one of the two.
    pub(crate) fn partner_of(self, member: usize) -> Option<usize> {
        if member == self.first {
            Some(self.second)
        } else if member == self.second {
            Some(self.first)
        } else {
            None
        }
    }
}

/// What is kept of one modality between the checks, the value and the gradient.
///
/// ```text
/// m = Σ_n w_n x_n / V_1                       V_1 = Σ_n w_n, V_2 = Σ_n w_n²
/// C = Σ_n w_n (x_n − m)(x_n − m)ᵀ / ν         ν = V_1 − ddof V_2 / V_1
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Sample<A> {
    pub(crate) modality: usize,
    means: Array1<A>,
    divisor: f64,
    /// V_1 and V_2.
    weight: f64,
    squared_weight: f64,
    /// The rows of a weight above 0, and whether they all have the same one.
    counted: usize,
    equal: bool,
    weighted: bool,
    weights: Array1<A>,
    roots: Array1<A>,
    has_missing: bool,
    /// The features with zeros for the missing rows, when there are any.
    cleaned: Workspace<A>,
}

impl<A: Scalar> Sample<A> {
    pub(crate) fn new(modality: usize) -> Self {
        Self {
            modality,
            means: Array1::zeros(0),
            divisor: 0.0,
            weight: 0.0,
            squared_weight: 0.0,
            counted: 0,
            equal: true,
            weighted: false,
            weights: Array1::zeros(0),
            roots: Array1::zeros(0),
            has_missing: false,
            cleaned: Workspace::default(),
        }
    }

    /// Checks a batch and sets the moments of first order.
    pub(crate) fn set(&mut self, batch: Batch<A>, ddof: usize) -> Result<(), CovarianceError> {
        self.check(&batch, ddof)?;
        if self.has_missing {
            self.clean(&batch)?;
            column_means(
                &self.cleaned.view(),
                Some(self.weights.view()),
                &mut self.means,
            )?;
        } else {
            let weights = self.weighted.then(|| self.weights.view());
            column_means(&batch.features, weights, &mut self.means)?;
        }
        self.check_means(&batch)
    }

    /// As [`set`](Self::set), and sets the covariance, in one read of the features where it can.
    pub(crate) fn set_with_covariance(
        &mut self,
        batch: Batch<A>,
        ddof: usize,
        covariance: &mut Workspace<A>,
    ) -> Result<(), CovarianceError> {
        if batch.weights.is_some() || batch.running.is_some() {
            self.set(batch, ddof)?;
            let samples = Samples {
                batches: &|_| batch,
                members: slice::from_ref(self),
                ddof,
            };
            return estimate_covariance(&samples, 0, covariance);
        }
        self.check(&batch, ddof)?;
        covariance.reshape_square(batch.features.ncols())?;
        scatter(
            A::from_f64(1.0 / self.divisor),
            &batch.features,
            &mut self.means,
            &mut covariance.view_mut(),
        )?;
        self.check_means(&batch)
    }

    fn check(&mut self, batch: &Batch<A>, ddof: usize) -> Result<(), CovarianceError> {
        let columns = batch.features.ncols();
        if columns == 0 {
            return Err(CovarianceError::NoColumns {
                modality: self.modality,
            });
        }
        if self.means.len() != columns {
            self.means = Array1::zeros(columns);
        }
        if let Some(running) = batch.running {
            running.check_width(self.modality, columns)?;
        }
        self.set_weights(batch, ddof)
    }

    /// A NaN or an infinity in a column makes its mean one too, so the features need no pass of
    /// their own.
    fn check_means(&self, batch: &Batch<A>) -> Result<(), CovarianceError> {
        if self.means.iter().all(|mean| mean.is_finite()) {
            return Ok(());
        }
        let modality = self.modality;
        let cleaned = self.cleaned.view();
        let x = if self.has_missing {
            &cleaned
        } else {
            &batch.features
        };
        match x.indexed_iter().find(|(_, entry)| !entry.is_finite()) {
            Some(((row, column), _)) => Err(CovarianceError::NonFinite {
                modality,
                row,
                column,
            }),
            None => Err(CovarianceError::Overflow {
                first: modality,
                second: modality,
            }),
        }
    }

    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// V_1 and V_2.
    pub(crate) fn total_weights(&self) -> (f64, f64) {
        (self.weight, self.squared_weight)
    }

    pub(crate) fn means(&self) -> &[A] {
        self.means.as_slice().unwrap_or_default()
    }

    fn set_weights(&mut self, batch: &Batch<A>, ddof: usize) -> Result<(), CovarianceError> {
        let modality = self.modality;
        let rows = batch.features.nrows();
        self.weighted = batch.weights.is_some();
        self.has_missing = false;
        let Some(weights) = batch.weights else {
            if rows <= ddof {
                return Err(CovarianceError::TooFewRows {
                    modality,
                    rows,
                    ddof,
                });
            }
            self.divisor = (rows - ddof) as f64;
            (self.weight, self.squared_weight) = (rows as f64, rows as f64);
            (self.counted, self.equal) = (rows, true);
            return Ok(());
        };
        if weights.len() != rows {
            let found = weights.len();
            return Err(CovarianceError::RowWeights {
                modality,
                expected: rows,
                found,
            });
        }
        let (mut sum, mut squares, mut largest, mut counted) = (0.0, 0.0, 0.0_f64, 0);
        for (row, weight) in weights.iter().enumerate() {
            let weight = weight.as_f64();
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(CovarianceError::RowWeight {
                    modality,
                    row,
                    found: weight,
                });
            }
            sum += weight;
            squares += weight * weight;
            largest = largest.max(weight);
            counted += usize::from(weight > 0.0);
        }
        (self.weight, self.squared_weight) = (sum, squares);
        self.divisor = sum - ddof as f64 * squares / sum;
        let has_divisor = self.divisor.is_finite() && self.divisor > 0.0;
        if counted <= ddof || !has_divisor {
            return Err(CovarianceError::TooFewRows {
                modality,
                rows: counted,
                ddof,
            });
        }
        self.has_missing = counted < rows;
        self.counted = counted;
        self.equal = weights
            .iter()
            .all(|weight| weight.is_zero() || weight.as_f64() == largest);
        if self.weights.len() != rows {
            self.weights = Array1::zeros(rows);
            self.roots = Array1::zeros(rows);
        }
        self.weights.assign(&weights);
        self.roots
            .zip_mut_with(&weights, |root, &weight| *root = weight.sqrt());
        Ok(())
    }

    fn clean(&mut self, batch: &Batch<A>) -> Result<(), CovarianceError> {
        let (rows, columns) = batch.features.dim();
        self.cleaned.reshape(rows, columns)?;
        let mut cleaned = self.cleaned.view_mut();
        cleaned.assign(&batch.features);
        for (mut row, &weight) in cleaned.rows_mut().into_iter().zip(&self.weights) {
            if weight.is_zero() {
                row.fill(A::zero());
            }
        }
        Ok(())
    }
}

/// The modalities of one group: features of one width D, with their means and divisors.
#[derive(Clone, Copy)]
pub(crate) struct Samples<'s, 'a, A> {
    pub(crate) batches: &'s (dyn Fn(usize) -> Batch<'a, A> + Sync + 's),
    pub(crate) members: &'s [Sample<A>],
    pub(crate) ddof: usize,
}

impl<'s, 'a: 's, A: Scalar> Samples<'s, 'a, A> {
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn modality(&self, member: usize) -> usize {
        self.members[member].modality
    }

    pub(crate) fn width(&self) -> usize {
        self.members.first().map_or(0, |member| member.means.len())
    }

    pub(crate) fn rows(&self, member: usize) -> usize {
        self.features(member).nrows()
    }

    /// ν.
    pub(crate) fn divisor(&self, member: usize) -> f64 {
        self.members[member].divisor
    }

    /// V_1.
    pub(crate) fn weight(&self, member: usize) -> f64 {
        self.members[member].weight
    }

    pub(crate) fn means(&self, member: usize) -> &'s Array1<A> {
        &self.members[member].means
    }

    /// The number of rows that count, if all of them count alike.
    pub(crate) fn equal_rows(&self, member: usize) -> Result<usize, CovarianceError> {
        let member = &self.members[member];
        if member.equal {
            return Ok(member.counted);
        }
        Err(CovarianceError::Incompatible {
            setting: "Ledoit-Wolf shrinkage",
            with: "row weights other than 0 and one other value",
        })
    }

    /// Calls `visit` with the index and the centred entries of every row that counts.
    pub(crate) fn for_each_centered_row(
        &self,
        member: usize,
        mut visit: impl FnMut(usize, CenteredRow<'_, A>),
    ) {
        let x = self.features(member);
        let means = self.means(member).iter();
        for (index, row) in x.rows().into_iter().enumerate() {
            if self
                .roots(member)
                .is_none_or(|roots| !roots[index].is_zero())
            {
                let row = row.into_iter();
                visit(
                    index,
                    CenteredRow {
                        row,
                        means: means.clone(),
                    },
                );
            }
        }
    }

    /// The covariance of the batches before.
    pub(crate) fn running(&self, member: usize) -> Option<&'a RunningCovariance<A>> {
        (self.batches)(self.modality(member)).running
    }

    /// `√w`, unless every row counts alike.
    pub(crate) fn roots(&self, member: usize) -> Option<&'s Array1<A>> {
        let member = &self.members[member];
        member.weighted.then_some(&member.roots)
    }

    /// The features, with zeros for missing rows.
    pub(crate) fn features(&self, member: usize) -> ArrayView2<'s, A> {
        let member = &self.members[member];
        if member.has_missing {
            member.cleaned.view()
        } else {
            (self.batches)(member.modality).features
        }
    }

    /// Sets the variance of every column: the diagonal of the covariance.
    pub(crate) fn variances(&self, member: usize, variances: &mut Vec<A>) {
        variances.clear();
        variances.resize(self.members[member].means.len(), A::zero());
        let x = self.features(member);
        for (index, row) in x.rows().into_iter().enumerate() {
            let weight = self
                .weights(member)
                .map_or(A::one(), |weights| weights[index]);
            let entries = row.iter().zip(self.means(member));
            for (variance, (&x, &mean)) in variances.iter_mut().zip(entries) {
                *variance += weight * (x - mean) * (x - mean);
            }
        }
        let present = self.present(member);
        let scale = A::from_f64(present / self.divisor(member));
        for variance in &mut *variances {
            *variance *= scale;
        }
        if let Some(running) = self.running(member) {
            let (sum, past, _) = running.blend();
            let past = A::from_f64(past);
            for (variance, &sum) in variances.iter_mut().zip(sum.diag()) {
                *variance += past * sum;
            }
        }
    }

    /// Adds the gradient in the features of a modality from one in its variances.
    pub(crate) fn add_variance_gradient(
        &self,
        member: usize,
        gamma: &[A],
        gradients: &mut [Array2<A>],
    ) {
        let factor = A::from_f64(2.0 * self.present(member) / self.divisor(member));
        let x = self.features(member);
        let rows = gradients[self.modality(member)].rows_mut();
        for (index, (mut gradient, x)) in rows.into_iter().zip(x.rows()).enumerate() {
            let weight = self
                .weights(member)
                .map_or(A::one(), |weights| weights[index]);
            let entries = x.iter().zip(self.means(member)).zip(gamma);
            for (gradient, ((&x, &mean), &gamma)) in gradient.iter_mut().zip(entries) {
                *gradient += factor * weight * (x - mean) * gamma;
            }
        }
    }

    /// The weight α of this batch in the covariance.
    pub(crate) fn present(&self, member: usize) -> f64 {
        self.running(member)
            .map_or(1.0, |running| running.blend().2)
    }

    pub(crate) fn fill_gradients_with_zero(&self, gradients: &mut [Array2<A>]) {
        for member in self.members {
            gradients[member.modality].fill(A::zero());
        }
    }

    fn weights(&self, member: usize) -> Option<&'s Array1<A>> {
        let member = &self.members[member];
        member.weighted.then_some(&member.weights)
    }

    /// `P = diag(√w) (X − 1 mᵀ)` of `x = features(member)`, so that `C = Pᵀ P / ν`.
    pub(crate) fn factor<'x>(&self, x: &'x ArrayView2<A>, member: usize) -> Operand<'x, A>
    where
        's: 'x,
    {
        let centered = Operand::from(x).centered(self.means(member));
        match self.roots(member) {
            Some(roots) => centered.weighted(roots),
            None => centered,
        }
    }

    /// `diag(w) (X − 1 mᵀ)`, so that `(2 / ν) diag(w) (X − 1 mᵀ) Γ` is the gradient in the features
    /// of a function with gradient `Γ` in the covariance.
    pub(crate) fn gradient_factor<'x>(&self, x: &'x ArrayView2<A>, member: usize) -> Operand<'x, A>
    where
        's: 'x,
    {
        let centered = Operand::from(x).centered(self.means(member));
        match self.weights(member) {
            Some(weights) => centered.weighted(weights),
            None => centered,
        }
    }
}

/// The entries of one row less the column means, in `f64`.
#[derive(Clone)]
pub(crate) struct CenteredRow<'x, A> {
    row: ndarray::iter::Iter<'x, A, ndarray::Ix1>,
    means: ndarray::iter::Iter<'x, A, ndarray::Ix1>,
}

impl<A: Scalar> Iterator for CenteredRow<'_, A> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        Some(self.row.next()?.as_f64() - self.means.next()?.as_f64())
    }
}
