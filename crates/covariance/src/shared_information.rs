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
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::distance::PairDistance;
use crate::samples::{GroupPair, Sample, Samples};
use crate::{Batch, CovarianceError, Distance, PairWeights, Route, Separation, Shrinkage};

/// Settings of [`SharedInformation`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedInformationConfig {
    /// Degrees of freedom taken off the number of rows in the divisor of a covariance: 1 (the
    /// default) for the unbiased estimate, 0 for the mean. Every modality needs more rows than
    /// this.
    pub ddof: usize,
    /// How far apart two modalities are.
    pub distance: Distance,
    /// How far covariances are drawn towards a multiple of the identity before.
    pub shrinkage: Shrinkage,
    /// What bounds the distance of pairs with a negative weight.
    pub separation: Separation,
}

impl Default for SharedInformationConfig {
    fn default() -> Self {
        Self {
            ddof: 1,
            distance: Distance::default(),
            shrinkage: Shrinkage::default(),
            separation: Separation::default(),
        }
    }
}

impl SharedInformationConfig {
    /// Checks the ranges of the fields.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] as [`Distance::validate`], [`Shrinkage::validate`] and
    /// [`Separation::validate`]; [`CovarianceError::Incompatible`] for shrinkage with
    /// [`Route::Gram`] or a distance that is not one of covariances.
    pub fn validate(&self) -> Result<(), CovarianceError> {
        self.distance.validate()?;
        self.shrinkage.validate()?;
        if self.shrinkage != Shrinkage::None {
            let setting = match self.distance {
                Distance::Frobenius { route: Route::Gram } => "the Gram route",
                Distance::CrossCovariance {} | Distance::RedundancyReduction { .. } => {
                    "a cross-covariance"
                }
                _ => return self.separation.validate(),
            };
            return Err(CovarianceError::Incompatible {
                setting,
                with: "shrinkage",
            });
        }
        self.separation.validate()
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
    /// `l_ij`, at least 0, whatever the weight.
    pub distance: A,
    /// What the pair adds to the total: `w_ij l_ij`, or `w_ij φ(l_ij)` for a negative weight.
    pub term: A,
}

/// The shared-information loss of M modalities, with the memory it works in.
///
/// ```text
/// L = Σ_{i<j} w_ij l_ij, where a negative w_ij multiplies a bounded φ(l_ij) instead
/// l_ij = ‖C_i − C_j‖²_F / (4 D²), or another `Distance`
/// ```
///
/// Features are `[N, D]` a modality, given as views or, with row weights, as [`Batch`]es. Modalities
/// that share a weight must have the same D; their N may differ. A modality without a weight is not
/// read, and its gradient is zero.
///
/// A value is a pure function of the batches: calls do not influence each other. The work space
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
#[derive(Debug)]
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
        let pair = |(first, second, _)| PairValue {
            first,
            second,
            distance: A::zero(),
            term: A::zero(),
        };
        let pairs = weights.pairs().map(pair).collect();
        Ok(Self {
            config,
            groups: Group::all(&weights, &config),
            weights,
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

    /// The loss of one batch a modality.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Modalities`] unless there is one batch a modality; for a modality with a
    /// weight, [`NoColumns`](CovarianceError::NoColumns), [`Width`](CovarianceError::Width),
    /// [`RowWeights`](CovarianceError::RowWeights), [`RowWeight`](CovarianceError::RowWeight),
    /// [`TooFewRows`](CovarianceError::TooFewRows), [`NonFinite`](CovarianceError::NonFinite),
    /// [`Overflow`](CovarianceError::Overflow) and [`TooLarge`](CovarianceError::TooLarge).
    pub fn value<'a, B: Copy + Into<Batch<'a, A>> + Sync>(
        &mut self,
        batches: &[B],
    ) -> Result<&Value<A>, CovarianceError> {
        self.evaluate(batches.len(), &|modality| batches[modality].into(), None)
    }

    /// The loss and its gradient in the features of every modality.
    ///
    /// The gradients are overwritten; `gradients[i]` must have the shape of the features of modality
    /// i.
    ///
    /// # Errors
    ///
    /// As [`value`](Self::value), and [`CovarianceError::GradientShape`]. The gradients are then
    /// unspecified.
    pub fn value_and_gradient<'a, B: Copy + Into<Batch<'a, A>> + Sync>(
        &mut self,
        batches: &[B],
        gradients: &mut [Array2<A>],
    ) -> Result<&Value<A>, CovarianceError> {
        let batch = |modality: usize| batches[modality].into();
        self.evaluate(batches.len(), &batch, Some(gradients))
    }

    fn evaluate<'a>(
        &mut self,
        count: usize,
        batch: &(dyn Fn(usize) -> Batch<'a, A> + Sync),
        mut gradients: Option<&mut [Array2<A>]>,
    ) -> Result<&Value<A>, CovarianceError> {
        let expected = self.weights.modalities();
        let check = |argument, found| {
            if found == expected {
                return Ok(());
            }
            Err(CovarianceError::Modalities {
                argument,
                expected,
                found,
            })
        };
        check("batches", count)?;
        if let Some(gradients) = &mut gradients {
            check("gradients", gradients.len())?;
            for (modality, gradient) in gradients.iter_mut().enumerate() {
                let expected = batch(modality).features.dim();
                if gradient.dim() != expected {
                    return Err(CovarianceError::GradientShape {
                        modality,
                        expected: expected.into(),
                        found: gradient.dim().into(),
                    });
                }
                if !self.groups.iter().any(|group| group.contains(modality)) {
                    gradient.fill(A::zero());
                }
            }
        }
        for group in &mut self.groups {
            group.evaluate(
                &self.config,
                batch,
                gradients.as_deref_mut(),
                &mut self.value.pairs,
            )?;
        }
        let total = self.value.pairs.iter().map(|pair| pair.term.as_f64()).sum();
        self.value.total = A::from_f64(total);
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
#[derive(Debug)]
struct Group<A> {
    members: Vec<Sample<A>>,
    pairs: Vec<GroupPair>,
    /// Where each pair stands among all pairs of the loss, and its weight.
    places: Vec<(usize, f64)>,
    distances: Vec<f64>,
    slopes: Vec<f64>,
    distance: Box<dyn PairDistance<A>>,
}

impl<A: Scalar> Group<A> {
    fn all(weights: &PairWeights, config: &SharedInformationConfig) -> Vec<Self> {
        let mut group_of: Vec<usize> = (0..weights.modalities()).collect();
        for (first, second, _) in weights.pairs() {
            let (kept, merged) = (group_of[first], group_of[second]);
            for group in &mut group_of {
                if *group == merged {
                    *group = kept;
                }
            }
        }
        let members = |group| {
            let belongs = |&modality: &usize| group_of[modality] == group;
            (0..weights.modalities())
                .filter(belongs)
                .collect::<Vec<_>>()
        };
        (0..weights.modalities())
            .map(members)
            .filter(|members| members.len() > 1)
            .map(|members| Self::new(&members, weights, config))
            .collect()
    }

    fn new(members: &[usize], weights: &PairWeights, config: &SharedInformationConfig) -> Self {
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
            members: members
                .iter()
                .map(|&modality| Sample::new(modality))
                .collect(),
            distances: vec![0.0; pairs.len()],
            slopes: vec![0.0; pairs.len()],
            distance: config
                .distance
                .build(config.shrinkage, members.len(), pairs.len()),
            pairs,
            places,
        }
    }

    fn contains(&self, modality: usize) -> bool {
        self.members
            .iter()
            .any(|member| member.modality == modality)
    }

    fn evaluate<'a>(
        &mut self,
        config: &SharedInformationConfig,
        batch: &(dyn Fn(usize) -> Batch<'a, A> + Sync),
        gradients: Option<&mut [Array2<A>]>,
        values: &mut [PairValue<A>],
    ) -> Result<(), CovarianceError> {
        let first = self.members[0].modality;
        for member in &mut self.members {
            let widths = [first, member.modality].map(|modality| batch(modality).features.ncols());
            if config.distance.needs_one_width() && widths[0] != widths[1] {
                return Err(CovarianceError::Width {
                    first,
                    second: member.modality,
                    widths,
                });
            }
            member.set(batch(member.modality), config.ddof)?;
        }
        let samples = Samples {
            batches: batch,
            members: &self.members,
            ddof: config.ddof,
        };
        let with_gradient = gradients.is_some();
        self.distance
            .distances(&samples, &self.pairs, with_gradient, &mut self.distances)?;
        for (index, &(place, weight)) in self.places.iter().enumerate() {
            let distance = self.distances[index];
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
            self.slopes[index] = weight * slope;
        }
        match gradients {
            Some(gradients) => {
                self.distance
                    .gradients(&samples, &self.pairs, &self.slopes, gradients)
            }
            None => Ok(()),
        }
    }
}
