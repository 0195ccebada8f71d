//! Which modalities share information, which separate, and how strongly.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::CovarianceError;

/// A weight for every pair of M modalities.
///
/// A positive weight aligns the pair (shared information), a negative one separates it (private
/// information), and zero leaves it alone. The matrix of weights is symmetric with a zero diagonal;
/// it is stored, in TOML or JSON, as its rows.
///
/// # Examples
///
/// ```
/// use modalign_covariance::PairWeights;
///
/// let weights = PairWeights::from_pairs(3, &[(0, 1, 1.0), (2, 1, -0.5)])?;
/// assert_eq!(weights.get(1, 0), Some(1.0));
/// assert_eq!(weights.pairs().collect::<Vec<_>>(), [(0, 1, 1.0), (1, 2, -0.5)]);
/// assert_eq!(PairWeights::uniform(3, 2.0)?.pairs().count(), 3);
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<f64>>", into = "Vec<Vec<f64>>")]
pub struct PairWeights {
    weights: Array2<f64>,
}

impl PairWeights {
    /// The same weight for every pair.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::WeightNonFinite`].
    pub fn uniform(modalities: usize, weight: f64) -> Result<Self, CovarianceError> {
        Self::new(Array2::from_shape_fn((modalities, modalities), |(i, j)| {
            if i == j { 0.0 } else { weight }
        }))
    }

    /// Weights for the pairs `(first, second, weight)`, in either order; zero for the others.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::NoPair`] for a modality that is not there or that is paired with itself,
    /// [`CovarianceError::RepeatedPair`], [`CovarianceError::WeightNonFinite`].
    pub fn from_pairs(
        modalities: usize,
        pairs: &[(usize, usize, f64)],
    ) -> Result<Self, CovarianceError> {
        let mut weights = Array2::zeros((modalities, modalities));
        for (index, &(first, second, weight)) in pairs.iter().enumerate() {
            if first == second || first.max(second) >= modalities {
                return Err(CovarianceError::NoPair {
                    first,
                    second,
                    modalities,
                });
            }
            let same = |&(i, j, _): &(usize, usize, f64)| {
                (i, j) == (first, second) || (j, i) == (first, second)
            };
            if pairs[..index].iter().any(same) {
                return Err(CovarianceError::RepeatedPair { first, second });
            }
            weights[[first, second]] = weight;
            weights[[second, first]] = weight;
        }
        Self::new(weights)
    }

    fn new(weights: Array2<f64>) -> Result<Self, CovarianceError> {
        let modalities = weights.nrows();
        for ((first, second), &weight) in weights.indexed_iter() {
            if !weight.is_finite() {
                return Err(CovarianceError::WeightNonFinite { first, second });
            }
            if first == second && weight != 0.0 {
                return Err(CovarianceError::NoPair {
                    first,
                    second,
                    modalities,
                });
            }
            if weight != weights[[second, first]] {
                return Err(CovarianceError::Asymmetric { first, second });
            }
        }
        Ok(Self { weights })
    }

    /// The number of modalities M.
    pub fn modalities(&self) -> usize {
        self.weights.nrows()
    }

    /// The weight of a pair; `None` if there are not so many modalities.
    pub fn get(&self, first: usize, second: usize) -> Option<f64> {
        self.weights.get([first, second]).copied()
    }

    /// The pairs with a weight other than zero, as `(first, second, weight)` with
    /// `first < second`, in lexicographic order.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        self.weights
            .indexed_iter()
            .filter(|&((first, second), &weight)| first < second && weight != 0.0)
            .map(|((first, second), &weight)| (first, second, weight))
    }
}

impl TryFrom<Vec<Vec<f64>>> for PairWeights {
    type Error = CovarianceError;

    fn try_from(rows: Vec<Vec<f64>>) -> Result<Self, CovarianceError> {
        let expected = rows.len();
        for (row, entries) in rows.iter().enumerate() {
            if entries.len() != expected {
                return Err(CovarianceError::WeightRow {
                    row,
                    expected,
                    found: entries.len(),
                });
            }
        }
        Self::new(Array2::from_shape_fn((expected, expected), |(i, j)| {
            rows[i][j]
        }))
    }
}

impl From<PairWeights> for Vec<Vec<f64>> {
    fn from(weights: PairWeights) -> Self {
        weights
            .weights
            .rows()
            .into_iter()
            .map(|row| row.to_vec())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_json() {
        let weights = PairWeights::from_pairs(3, &[(1, 0, 0.5), (1, 2, -2.0)]).unwrap();
        let json = serde_json::to_string(&weights).unwrap();
        assert_eq!(json, "[[0.0,0.5,0.0],[0.5,0.0,-2.0],[0.0,-2.0,0.0]]");
        assert_eq!(serde_json::from_str::<PairWeights>(&json).unwrap(), weights);
    }

    #[test]
    fn bad_weights_are_refused() {
        let rows = |rows: &[&[f64]]| {
            PairWeights::try_from(rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(
            rows(&[&[0.0, 1.0], &[1.0]]),
            Err(CovarianceError::WeightRow {
                row: 1,
                expected: 2,
                found: 1
            })
        );
        assert_eq!(
            rows(&[&[0.0, 1.0], &[2.0, 0.0]]),
            Err(CovarianceError::Asymmetric {
                first: 0,
                second: 1
            })
        );
        assert_eq!(
            rows(&[&[0.0, 1.0], &[1.0, 3.0]]),
            Err(CovarianceError::NoPair {
                first: 1,
                second: 1,
                modalities: 2
            })
        );
        assert_eq!(
            PairWeights::uniform(2, f64::NAN),
            Err(CovarianceError::WeightNonFinite {
                first: 0,
                second: 1
            })
        );
        assert_eq!(
            PairWeights::from_pairs(2, &[(0, 2, 1.0)]),
            Err(CovarianceError::NoPair {
                first: 0,
                second: 2,
                modalities: 2
            })
        );
        assert_eq!(
            PairWeights::from_pairs(2, &[(0, 1, 1.0), (1, 0, 1.0)]),
            Err(CovarianceError::RepeatedPair {
                first: 1,
                second: 0
            })
        );
    }
}
