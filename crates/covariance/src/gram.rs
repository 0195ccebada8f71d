//! The Frobenius distance and its gradient through inner products of rows, for fewer rows than
//! columns: no D x D matrix is formed.
//!
//! ```text
//! Z_i = diag(√w_i) (X_i − 1 m_iᵀ) / √ν_i          so that C_i = Z_iᵀ Z_i
//! G = Z Zᵀ for the stacked Z = [Z_1; …; Z_M], with blocks G_ij = Z_i Z_jᵀ
//! q_ij = ‖C_i − C_j‖²_F = ‖G_ii‖²_F + ‖G_jj‖²_F − 2 ‖G_ij‖²_F
//! l_ij = q_ij / (4 D²)
//! d(Σ s_ij l_ij)/dX_i = 1 / (D² √ν_i) · diag(√w_i) Σ_j s_ij (G_ii Z_i − G_ij Z_j)
//! ```
//!
//! because `tr(C_i C_j) = tr(Z_iᵀ Z_i Z_jᵀ Z_j) = ‖Z_i Z_jᵀ‖²_F`. One symmetric product forward; one
//! product a modality backward, of a row of blocks of `K ∘ G` with the stacked `Z`.
//!
//! The distance of close covariances is a small difference of large terms. Below
//! [`CANCELLATION`] it is computed from the entries of `C_i − C_j` instead, a panel of columns at a
//! time. The gradient is linear in `C_i − C_j` and loses no more than it does by the other route.

use modalign_core::Scalar;
use modalign_linalg::{gemm, syrk};
use ndarray::{Array2, Zip, s};

use crate::covariances::normalisation;
use crate::samples::{GroupPair, Samples};
use crate::sums::sum_of_squares;
use crate::{CovarianceError, workspace::Workspace};

/// The least ratio `q_ij / (‖C_i‖² + ‖C_j‖²)` at which the three terms are subtracted: the rounding
/// error of `q_ij` is then at most that of the terms times 64.
const CANCELLATION: f64 = 1.0 / 64.0;

/// Columns of `C_i − C_j` held at a time.
const PANEL: usize = 64;

#[derive(Debug)]
pub(crate) struct Gram<A> {
    /// Z.
    stacked: Workspace<A>,
    /// The first row of each modality in Z, and after the last the number of rows.
    starts: Vec<usize>,
    /// G, and `K ∘ G` once the distances are known.
    gram: Workspace<A>,
    panel: Workspace<A>,
}

impl<A: Scalar> Gram<A> {
    pub(crate) fn new() -> Self {
        Self {
            stacked: Workspace::default(),
            starts: Vec::new(),
            gram: Workspace::default(),
            panel: Workspace::default(),
        }
    }

    /// Sets `distances[p] = l` for every pair `p`.
    pub(crate) fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        self.stack(samples)?;
        self.gram.reshape_square(self.stacked.view().nrows())?;
        syrk(
            A::one(),
            &self.stacked.view(),
            A::zero(),
            &mut self.gram.view_mut(),
        )?;
        for (pair, distance) in pairs.iter().zip(distances) {
            let norms =
                self.block_norm(pair.first, pair.first) + self.block_norm(pair.second, pair.second);
            let mut squared = norms - 2.0 * self.block_norm(pair.first, pair.second);
            if squared < CANCELLATION * norms {
                squared = self.squared_distance_by_panels(*pair)?;
            }
            *distance = normalisation(samples.width()) * squared;
        }
        Ok(())
    }

    /// Sets the gradient of `Σ_p slopes[p] l_p` for every modality, after
    /// [`distances`](Self::distances) of the same samples.
    pub(crate) fn gradients(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        slopes: &[f64],
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError> {
        for row in 0..samples.count() {
            for column in 0..samples.count() {
                let coefficient = pairs
                    .iter()
                    .zip(slopes)
                    .map(|(pair, &slope)| match pair.partner_of(row) {
                        Some(_) if row == column => slope,
                        Some(partner) if partner == column => -slope,
                        _ => 0.0,
                    })
                    .sum();
                self.scale_block(row, column, A::from_f64(coefficient));
            }
        }
        let (gram, stacked) = (self.gram.view(), self.stacked.view());
        for (member, rows) in self.starts.windows(2).enumerate() {
            let factor = 4.0 * normalisation(samples.width()) / samples.divisor(member).sqrt();
            let gradient = &mut gradients[samples.modality(member)];
            let block_row = gram.slice(s![rows[0]..rows[1], ..]);
            gemm(
                A::from_f64(factor),
                &block_row,
                &stacked,
                A::zero(),
                gradient,
            )?;
            if let Some(roots) = samples.roots(member) {
                for (mut row, &root) in gradient.rows_mut().into_iter().zip(roots) {
                    row *= root;
                }
            }
        }
        Ok(())
    }

    fn stack(&mut self, samples: &Samples<A>) -> Result<(), CovarianceError> {
        self.starts.clear();
        self.starts.push(0);
        let mut rows = 0;
        for member in 0..samples.count() {
            rows += samples.rows(member);
            self.starts.push(rows);
        }
        self.stacked.reshape(rows, samples.width())?;
        let mut stacked = self.stacked.view_mut();
        for member in 0..samples.count() {
            let factor = A::from_f64(1.0 / samples.divisor(member).sqrt());
            let mut block = stacked.slice_mut(s![self.starts[member]..self.starts[member + 1], ..]);
            let x = samples.features(member);
            for (mut z, x) in block.rows_mut().into_iter().zip(x.rows()) {
                Zip::from(&mut z)
                    .and(&x)
                    .and(samples.means(member))
                    .for_each(|z, &x, &mean| *z = (x - mean) * factor);
            }
            if let Some(roots) = samples.roots(member) {
                for (mut z, &root) in block.rows_mut().into_iter().zip(roots) {
                    z *= root;
                }
            }
        }
        Ok(())
    }

    /// The entries of G in row `row` that belong to the columns of modality `column`.
    fn block_row(&self, row: usize, column: usize) -> std::ops::Range<usize> {
        let side = self.starts.last().copied().unwrap_or(0);
        row * side + self.starts[column]..row * side + self.starts[column + 1]
    }

    fn block_norm(&self, row: usize, column: usize) -> f64 {
        (self.starts[row]..self.starts[row + 1])
            .map(|row| sum_of_squares(&self.gram.entries()[self.block_row(row, column)]))
            .sum()
    }

    fn scale_block(&mut self, row: usize, column: usize, coefficient: A) {
        for row in self.starts[row]..self.starts[row + 1] {
            let range = self.block_row(row, column);
            for entry in &mut self.gram.entries_mut()[range] {
                *entry *= coefficient;
            }
        }
    }

    /// `‖C_i − C_j‖²` from its entries: the rows above a panel count twice, for their mirror images.
    fn squared_distance_by_panels(&mut self, pair: GroupPair) -> Result<f64, CovarianceError> {
        let stacked = self.stacked.view();
        let block =
            |member: usize| stacked.slice(s![self.starts[member]..self.starts[member + 1], ..]);
        let (first, second) = (block(pair.first), block(pair.second));
        let width = stacked.ncols();
        let mut sum = 0.0;
        for start in (0..width).step_by(PANEL) {
            let end = width.min(start + PANEL);
            self.panel.reshape(end, end - start)?;
            let mut panel = self.panel.view_mut();
            for (sign, beta, z) in [
                (A::one(), A::zero(), &first),
                (-A::one(), A::one(), &second),
            ] {
                let (above, columns) = (z.slice(s![.., ..end]), z.slice(s![.., start..end]));
                gemm(sign, &above.t(), &columns, beta, &mut panel)?;
            }
            let (above, square) = self.panel.entries().split_at(start * (end - start));
            sum += 2.0 * sum_of_squares(above) + sum_of_squares(square);
        }
        Ok(sum)
    }
}
