//! The covariance-based shared-information loss over weighted pairs of modalities.
//!
//! ```text
//! l_ij = ‖C_i − C_j‖²_F / (4 D²)
//! L = Σ_{i<j} w_ij l_ij            for w_ij > 0
//!   + Σ_{i<j} w_ij φ(l_ij)         for w_ij < 0, φ bounded: see `Separation`
//! dL/dX_i = 1 / (D² ν_i) · (X_i − 1 m_iᵀ) Σ_j s_ij (C_i − C_j)      s_ij = w_ij or w_ij φ'(l_ij)
//! ```
//!
//! `C_i` is the covariance of modality i with divisor `ν_i = N_i − ddof` and `m_i` its column means.

use modalign_core::Scalar;
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::covariance::centre;
use crate::covariance_route::CovarianceRoute;
use crate::gram_route::GramRoute;
use crate::samples::{GroupPair, Samples};
use crate::{CovarianceError, PairWeights, Separation};

/// Settings of [`SharedInformation`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedInformationConfig {
    /// Degrees of freedom taken off the number of rows in the divisor of a covariance: 1 (the
    /// default) for the unbiased estimate, 0 for the mean. Every modality needs more rows than
    /// this.
    pub ddof: usize,
    /// What bounds the distance of pairs with a negative weight.
    pub separation: Separation,
    /// How the loss is computed.
    pub route: Route,
}

impl Default for SharedInformationConfig {
    fn default() -> Self {
        Self {
            ddof: 1,
            separation: Separation::default(),
            route: Route::Auto,
        }
    }
}

impl SharedInformationConfig {
    /// Checks the ranges of the fields.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] as [`Separation::validate`].
    pub fn validate(&self) -> Result<(), CovarianceError> {
        self.separation.validate()
    }
}

/// Through which products the loss is computed. The results agree to rounding.
///
/// For M modalities of N rows and D columns, in multiply-adds, halves of symmetric products left
/// out:
///
/// ```text
///               forward         backward        work space
/// Covariance    M N D² / 2      M N D²          (M + 1) D²
/// Gram          M² N² D / 2     M² N² D         M² N² + M N D
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Whichever costs less for the shapes at hand: about, covariances where the rows of all
    /// modalities together are more than the columns, inner products where they are fewer.
    #[default]
    Auto,
    /// The D x D covariance of every modality.
    Covariance,
    /// The inner products between the rows of all modalities.
    Gram,
}

/// What the passes over a matrix entry cost, in floating-point operations of a product: their time
/// is that of memory, not of arithmetic.
const ENTRY_COST: f64 = 16.0;

impl Route {
    /// Whether the Gram route is taken for a group of modalities.
    fn is_gram(self, samples: &Samples<impl Scalar>, pairs: usize, with_gradient: bool) -> bool {
        match self {
            Self::Covariance => false,
            Self::Gram => true,
            Self::Auto => {
                let rows: usize = (0..samples.count())
                    .map(|member| samples.rows(member))
                    .sum();
                let (rows, width, pairs) = (rows as f64, samples.width() as f64, pairs as f64);
                // Forward counts the half that is computed of 2 N D²; each pair reads two matrices.
                let (products, passes) = if with_gradient {
                    (3.0, 4.0)
                } else {
                    (1.0, 1.0)
                };
                let covariance = width * width * (products * rows + ENTRY_COST * passes * pairs);
                let gram = rows * (width * (products * rows + ENTRY_COST) + ENTRY_COST * rows);
                gram < covariance
            }
        }
    }
}

/// The loss and what each pair contributes to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Value<A> {
    /// The sum of the terms of all pairs.
    pub total: A,
    /// The pairs with a weight other than zero, in the order of [`PairWeights::pairs`].
    pub pairs: Vec<PairValue<A>>,
}

/// One pair's part of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairValue<A> {
    /// The modality that comes first.
    pub first: usize,
    /// The modality that comes second.
    pub second: usize,
    /// `l_ij = ‖C_i − C_j‖²_F / (4 D²)`, at least 0, whatever the weight.
    pub distance: A,
    /// What the pair adds to the total: `w_ij l_ij`, or `w_ij φ(l_ij)` for a negative weight.
    pub term: A,
}

/// The shared-information loss of M modalities, with the memory it works in.
///
/// ```text
/// l_ij = ‖C_i − C_j‖²_F / (4 D²)
/// L = Σ_{i<j} w_ij l_ij, where a negative w_ij multiplies a bounded φ(l_ij) instead
/// ```
///
/// Features are `[N, D]` a modality. Modalities that share a weight must have the same D; their N
/// may differ. A modality without a weight is not read, and its gradient is zero.
///
/// A value is a pure function of the features: calls do not influence each other. The work space
/// grows to the largest shapes seen and stays.
///
/// # Examples
///
/// Text and audio share, audio and vision separate:
///
/// ```
/// use modalign_covariance::{PairWeights, SharedInformation, SharedInformationConfig};
/// use ndarray::{Array2, array};
///
/// let text = array![[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]];
/// let audio = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]];
/// let vision = array![[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]];
///
/// let weights = PairWeights::from_pairs(3, &[(0, 1, 1.0), (1, 2, -0.1)])?;
/// let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights)?;
/// let features = [text.view(), audio.view(), vision.view()];
/// let mut gradients = [(); 3].map(|_| Array2::zeros((3, 2)));
///
/// let value = loss.value_and_gradient(&features, &mut gradients)?;
/// assert_eq!(value.pairs[0].term, 1.40625); // (3² + 1.5² + 1.5² + 3²) / 16
/// assert_eq!(value.pairs[1].term, -0.025); // beyond the margin of 0.25
/// assert_eq!(value.total, 1.38125);
/// assert_eq!(gradients[2], array![[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]);
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
///
/// # References
///
/// Baochen Sun, Kate Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", 2016
/// (the distance of one pair).
#[derive(Debug, Clone)]
pub struct SharedInformation<A> {
    config: SharedInformationConfig,
    weights: PairWeights,
    groups: Vec<Group<A>>,
    value: Value<A>,
}

impl<A: Scalar> SharedInformation<A> {
    /// A loss with these settings and one weight a pair.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] for a setting out of range.
    pub fn new(
        config: SharedInformationConfig,
        weights: PairWeights,
    ) -> Result<Self, CovarianceError> {
        config.validate()?;
        let pairs = weights
            .pairs()
            .map(|(first, second, _)| PairValue {
                first,
                second,
                distance: A::zero(),
                term: A::zero(),
            })
            .collect();
        let groups = Group::all(&weights);
        Ok(Self {
            config,
            weights,
            groups,
            value: Value {
                total: A::zero(),
                pairs,
            },
        })
    }

    /// The settings.
    pub fn config(&self) -> &SharedInformationConfig {
        &self.config
    }

    /// The weights.
    pub fn weights(&self) -> &PairWeights {
        &self.weights
    }

    /// The loss of `features`, one `[N, D]` array a modality.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Modalities`] unless there is one array a modality; for a modality with a
    /// weight, [`NoColumns`](CovarianceError::NoColumns), [`Width`](CovarianceError::Width),
    /// [`TooFewRows`](CovarianceError::TooFewRows), [`NonFinite`](CovarianceError::NonFinite),
    /// [`Overflow`](CovarianceError::Overflow) and [`TooLarge`](CovarianceError::TooLarge).
    pub fn value(&mut self, features: &[ArrayView2<A>]) -> Result<&Value<A>, CovarianceError> {
        self.evaluate(features, None)
    }

    /// The loss and its gradient in every modality.
    ///
    /// The gradients are overwritten; `gradients[i]` must have the shape of `features[i]`.
    ///
    /// # Errors
    ///
    /// As [`value`](Self::value), and [`CovarianceError::GradientShape`]. The gradients are then
    /// unspecified.
    pub fn value_and_gradient(
        &mut self,
        features: &[ArrayView2<A>],
        gradients: &mut [Array2<A>],
    ) -> Result<&Value<A>, CovarianceError> {
        self.evaluate(features, Some(gradients))
    }

    fn evaluate(
        &mut self,
        features: &[ArrayView2<A>],
        mut gradients: Option<&mut [Array2<A>]>,
    ) -> Result<&Value<A>, CovarianceError> {
        let expected = self.weights.modalities();
        let count = |argument, found| {
            if found == expected {
                return Ok(());
            }
            Err(CovarianceError::Modalities {
                argument,
                expected,
                found,
            })
        };
        count("features", features.len())?;
        if let Some(gradients) = &mut gradients {
            count("gradients", gradients.len())?;
            for (modality, (gradient, features)) in gradients.iter_mut().zip(features).enumerate() {
                if gradient.dim() != features.dim() {
                    return Err(CovarianceError::GradientShape {
                        modality,
                        expected: features.dim().into(),
                        found: gradient.dim().into(),
                    });
                }
                if !self
                    .groups
                    .iter()
                    .any(|group| group.members.contains(&modality))
                {
                    gradient.fill(A::zero());
                }
            }
        }
        for group in &mut self.groups {
            let gradients = gradients.as_deref_mut();
            group.evaluate(&self.config, features, gradients, &mut self.value.pairs)?;
        }
        self.value.total =
            A::from_f64(self.value.pairs.iter().map(|pair| pair.term.as_f64()).sum());
        Ok(&self.value)
    }
}

/// The distance of one pair and its gradients, without settings: the form of the published loss.
///
/// ```text
/// l = ‖C(A) − C(B)‖²_F / (4 D²)
/// dl/dA = (A − mean) (C(A) − C(B)) / (D² (N_A − 1))        dl/dB likewise, with the other sign
/// ```
///
/// `a [N_A, D]` and `b [N_B, D]` give `l`, `dl/da` and `dl/db`, with the unbiased divisor. It
/// allocates its work space; [`SharedInformation`] keeps it.
///
/// # Errors
///
/// As [`SharedInformation::value`], with `a` as modality 0 and `b` as modality 1.
///
/// # Examples
///
/// ```
/// use modalign_covariance::coral;
/// use ndarray::array;
///
/// let a = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]];
/// let b = array![[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]];
/// let (value, da, _) = coral(a.view(), b.view())?;
/// assert_eq!(value, 1.40625);
/// assert_eq!(da[[0, 0]], 0.75); // (−1 · −3 + −2 · −1.5) / (2² · 2)
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
pub fn coral<A: Scalar>(
    a: ArrayView2<A>,
    b: ArrayView2<A>,
) -> Result<(A, Array2<A>, Array2<A>), CovarianceError> {
    let weights = PairWeights::uniform(2, 1.0)?;
    let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights)?;
    let mut gradients = [Array2::zeros(a.raw_dim()), Array2::zeros(b.raw_dim())];
    let value = loss.value_and_gradient(&[a, b], &mut gradients)?.total;
    let [da, db] = gradients;
    Ok((value, da, db))
}

/// Modalities that are linked by weights, directly or through others, so that they share a width.
#[derive(Debug, Clone)]
struct Group<A> {
    members: Vec<usize>,
    pairs: Vec<GroupPair>,
    /// Where each pair stands among all pairs of the loss, and its weight.
    places: Vec<(usize, f64)>,
    means: Vec<Array1<A>>,
    divisors: Vec<f64>,
    distances: Vec<f64>,
    slopes: Vec<f64>,
    covariance_route: CovarianceRoute<A>,
    gram_route: GramRoute<A>,
}

impl<A: Scalar> Group<A> {
    fn all(weights: &PairWeights) -> Vec<Self> {
        let mut group_of: Vec<usize> = (0..weights.modalities()).collect();
        for (first, second, _) in weights.pairs() {
            let (kept, merged) = (group_of[first], group_of[second]);
            for group in &mut group_of {
                if *group == merged {
                    *group = kept;
                }
            }
        }
        (0..weights.modalities())
            .filter_map(|label| {
                let members: Vec<usize> = (0..group_of.len())
                    .filter(|&modality| group_of[modality] == label)
                    .collect();
                (members.len() > 1).then(|| Self::new(members, weights))
            })
            .collect()
    }

    fn new(members: Vec<usize>, weights: &PairWeights) -> Self {
        let mut pairs = Vec::new();
        let mut places = Vec::new();
        let position = |modality| members.iter().position(|&member| member == modality);
        for (place, (first, second, weight)) in weights.pairs().enumerate() {
            if let (Some(first), Some(second)) = (position(first), position(second)) {
                pairs.push(GroupPair { first, second });
                places.push((place, weight));
            }
        }
        Self {
            means: vec![Array1::zeros(0); members.len()],
            divisors: vec![0.0; members.len()],
            distances: vec![0.0; pairs.len()],
            slopes: vec![0.0; pairs.len()],
            covariance_route: CovarianceRoute::new(members.len()),
            gram_route: GramRoute::new(),
            members,
            pairs,
            places,
        }
    }

    fn evaluate(
        &mut self,
        config: &SharedInformationConfig,
        features: &[ArrayView2<A>],
        gradients: Option<&mut [Array2<A>]>,
        values: &mut [PairValue<A>],
    ) -> Result<(), CovarianceError> {
        self.centre(config.ddof, features)?;
        let samples = Samples {
            features,
            members: &self.members,
            means: &self.means,
            divisors: &self.divisors,
        };
        let gram = config
            .route
            .is_gram(&samples, self.pairs.len(), gradients.is_some());
        if gram {
            self.gram_route
                .distances(&samples, &self.pairs, &mut self.distances)?;
        } else {
            self.covariance_route
                .distances(&samples, &self.pairs, &mut self.distances)?;
        }
        let normalisation = 1.0 / (4.0 * (samples.width() as f64).powi(2));
        for (index, &(place, weight)) in self.places.iter().enumerate() {
            let distance = normalisation * self.distances[index];
            let (bounded, slope) = if weight < 0.0 {
                config.separation.apply(distance)
            } else {
                (distance, 1.0)
            };
            let value = &mut values[place];
            value.distance = A::from_f64(distance);
            value.term = A::from_f64(weight * bounded);
            if !value.distance.is_finite() || !value.term.is_finite() {
                return Err(CovarianceError::Overflow {
                    first: value.first,
                    second: value.second,
                });
            }
            self.slopes[index] = weight * slope * normalisation;
        }
        let Some(gradients) = gradients else {
            return Ok(());
        };
        if gram {
            self.gram_route
                .gradients(&samples, &self.pairs, &self.slopes, gradients)
        } else {
            self.covariance_route
                .gradients(&samples, &self.pairs, &self.slopes, gradients)
        }
    }

    /// Checks the features of the group and sets the means and divisors.
    fn centre(&mut self, ddof: usize, features: &[ArrayView2<A>]) -> Result<(), CovarianceError> {
        let first = self.members[0];
        for (position, &modality) in self.members.iter().enumerate() {
            let widths = [features[first].ncols(), features[modality].ncols()];
            if widths[0] != widths[1] {
                return Err(CovarianceError::Width {
                    first,
                    second: modality,
                    widths,
                });
            }
            self.divisors[position] = centre(
                modality,
                features[modality],
                ddof,
                &mut self.means[position],
            )?;
        }
        Ok(())
    }
}
