//! What a loss is given of one modality.

use ndarray::{ArrayView1, ArrayView2};

use crate::RunningCovariance;

/// The features of one modality in one batch, how much each row counts, and what earlier batches
/// tell of the covariance.
///
/// A view of features converts into a batch whose rows all count alike, with no past.
///
/// # Examples
///
/// The second row of the audio is missing; whatever stands there is not read, NaN included:
///
/// ```
/// use modalign_covariance::{Batch, PairWeights, SharedInformation, SharedInformationConfig};
/// use ndarray::{Array2, array};
///
/// let text = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0], [0.0, 2.0]];
/// let audio = array![[0.0, 1.0], [f64::NAN, f64::NAN], [2.0, 3.0], [4.0, 5.0]];
/// let present = array![1.0, 0.0, 1.0, 1.0];
///
/// let weights = PairWeights::uniform(2, 1.0)?;
/// let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights)?;
/// let mut gradients = [(); 2].map(|_| Array2::zeros((4, 2)));
/// let batches = [text.view().into(), Batch::from(audio.view()).weighted(present.view())];
/// let value = loss.value_and_gradient(&batches, &mut gradients)?.total;
/// assert_eq!(gradients[1].row(1).to_vec(), [0.0, 0.0]);
///
/// let kept = array![[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]];
/// assert_eq!(loss.value(&[text.view(), kept.view()])?.total, value);
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a, A> {
    /// `[N, D]`.
    pub features: ArrayView2<'a, A>,
    /// How much each row counts, `[N]`, at least 0; `None` for 1 everywhere. Only their ratios
    /// matter. A row of weight 0 is missing: it is not read, and its gradient is zero.
    pub weights: Option<ArrayView1<'a, A>>,
    /// The covariance of the batches before, into which that of this batch is blended; `None` to
    /// stand alone.
    pub running: Option<&'a RunningCovariance<A>>,
}

impl<'a, A> Batch<'a, A> {
    /// The same features with these row weights.
    #[must_use]
    pub fn weighted(self, weights: ArrayView1<'a, A>) -> Self {
        Self {
            weights: Some(weights),
            ..self
        }
    }

    /// The same features blended into a running covariance.
    #[must_use]
    pub fn after(self, running: &'a RunningCovariance<A>) -> Self {
        Self {
            running: Some(running),
            ..self
        }
    }
}

impl<'a, A> From<ArrayView2<'a, A>> for Batch<'a, A> {
    fn from(features: ArrayView2<'a, A>) -> Self {
        Self {
            features,
            weights: None,
            running: None,
        }
    }
}
