//! The update of the labels from the features of a batch.
//!
//! ```text
//! c⁺, c⁻    centres of the positive and the negative class of a space
//! D⁺ = d(f, c⁺),   D⁻ = d(f, c⁻)
//! α = (D⁻ − D⁺) / (D⁺ + ε)                            one for each space; α_m of the fused one
//! new = y_m α_s/(α_m + ε)  |  y_m + α_s − α_m  |  the mean of both,   clamped to ±H
//! y_s ← w y_s + (1 − w) new                           w the momentum
//! ```

use std::ops::AddAssign;

use modalign_core::{Scalar, check_shape};
use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::space::{Class, Space};
use crate::{Distance, LabelError, LabelGeneratorConfig, LabelState, Offset};

/// Derives a label for each modality of a sample from its multimodal label and from where its
/// features lie between the two classes.
///
/// ```
/// use modalign_labels::{LabelGenerator, LabelGeneratorConfig};
/// use ndarray::array;
///
/// let generator = LabelGenerator::new(LabelGeneratorConfig::default())?;
/// // Two samples; a fused space and one modality, both of width 1.
/// let mut state = generator.initial_state(array![1.0, -1.0].view(), &[1, 1])?;
///
/// // Epoch 1 fills the class centres: ±1 in the fused space, ±2 in the modality.
/// let (fused, modality) = (array![[1.0], [-1.0]], array![[2.0], [-2.0]]);
/// generator.update(&mut state, 1, &[0, 1], &[fused.view(), modality.view()])?;
/// assert_eq!(state.labels().row(1), array![1.0, -1.0]);
///
/// // Epoch 2: the first sample is at 0.5 in the fused space, D⁺ = 0.5, D⁻ = 1.5, α = 2; in the
/// // modality it is at 0.8, D⁺ = 1.2, D⁻ = 2.8, α = 4/3.
/// let report =
///     generator.update(&mut state, 2, &[0], &[array![[0.5]].view(), array![[0.8]].view()])?;
/// assert_eq!(report.updated, 1);
/// // New label ((4/3)/2 + 1 + 4/3 − 2)/2 = 1/2; a third of the old one and two thirds of it.
/// assert!((state.labels()[[1, 0]] - 2.0 / 3.0_f64).abs() < 1e-6);
/// # Ok::<(), modalign_labels::LabelError>(())
/// ```
///
/// # References
///
/// W. Yu, H. Xu, Z. Yuan, J. Wu, "Learning Modality-Specific Representations with Self-Supervised
/// Multi-Task Learning for Multimodal Sentiment Analysis", AAAI 2021.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelGenerator {
    config: LabelGeneratorConfig,
}

/// What an update did, in labels: one for each sample of the batch and each modality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Labels that were averaged with a new one.
    pub updated: usize,
    /// Labels left alone because a class of the fused space or of the modality has no member.
    pub skipped_empty_class: usize,
    /// Labels left alone because the offset divides by the relative distance of the fused space and
    /// that is too small, or because the new label is not a finite number.
    pub skipped_vanishing_distance: usize,
    /// Updated labels whose new value had to be clamped to the label range.
    pub clamped: usize,
}

impl AddAssign for UpdateReport {
    fn add_assign(&mut self, other: Self) {
        self.updated += other.updated;
        self.skipped_empty_class += other.skipped_empty_class;
        self.skipped_vanishing_distance += other.skipped_vanishing_distance;
        self.clamped += other.clamped;
    }
}

impl LabelGenerator {
    /// A generator with these options.
    ///
    /// # Errors
    ///
    /// [`LabelError::Config`].
    pub fn new(config: LabelGeneratorConfig) -> Result<Self, LabelError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// The options.
    pub fn config(&self) -> &LabelGeneratorConfig {
        &self.config
    }

    /// The state before the first epoch: all spaces have the multimodal label, no sample has a
    /// feature.
    ///
    /// `labels` are the multimodal labels, `[N]`; `widths` the width of the fused features, then
    /// that of each modality, `[M+1]`.
    ///
    /// # Errors
    ///
    /// [`LabelError::NoSamples`], [`LabelError::TooFewSpaces`], [`LabelError::ZeroWidth`], or
    /// [`LabelError::LabelOutOfRange`] for a label that is not a number of the label range.
    pub fn initial_state<A: Scalar>(
        &self,
        labels: ArrayView1<A>,
        widths: &[usize],
    ) -> Result<LabelState<A>, LabelError> {
        if labels.is_empty() {
            return Err(LabelError::NoSamples);
        }
        if widths.len() < 2 {
            return Err(LabelError::TooFewSpaces {
                found: widths.len(),
            });
        }
        if let Some(space) = widths.iter().position(|&width| width == 0) {
            return Err(LabelError::ZeroWidth { space });
        }
        let limit = self.config.label_limit;
        let outside = |label: &A| !label.is_finite() || label.abs() > A::from_f64(limit);
        if let Some(index) = labels.iter().position(outside) {
            return Err(LabelError::LabelOutOfRange {
                index,
                value: labels[index].as_f64(),
                limit,
            });
        }
        let mut spaces: Vec<_> = widths
            .iter()
            .map(|&width| Space::new(labels.len(), width))
            .collect();
        if self.config.count_unseen {
            for space in &mut spaces {
                for (sample, &label) in labels.iter().enumerate() {
                    space.enter(sample, Class::of(label, self.config.exclude_zero));
                }
                space.move_centres(self.config.centre_momentum);
            }
        }
        Ok(LabelState {
            labels: Array2::from_shape_fn((widths.len(), labels.len()), |(_, sample)| {
                labels[sample]
            }),
            spaces,
            sorted: Vec::new(),
        })
    }

    /// One update from the features of a batch: new labels for its samples from the centres that the
    /// previous update left (from `start_epoch` on), then its features into the class sums, then
    /// the centres. Call it after the loss of the batch was computed from the labels as they are.
    ///
    /// `epoch` is numbered from 1; `indices` `[B]` are the samples of the batch; `features` hold the
    /// fused features, then those of each modality, `[B, D_s]` each. The cost grows with B · Σ D_s
    /// and does not depend on the number of samples; nothing is allocated once a batch of this size
    /// has been seen.
    ///
    /// # Errors
    ///
    /// [`LabelError::EpochZero`], [`LabelError::SpaceCount`], [`LabelError::Shape`],
    /// [`LabelError::IndexOutOfRange`], [`LabelError::DuplicateIndex`] or
    /// [`LabelError::UnusableFeature`]; the state is then as it was.
    pub fn update<A: Scalar>(
        &self,
        state: &mut LabelState<A>,
        epoch: usize,
        indices: &[usize],
        features: &[ArrayView2<A>],
    ) -> Result<UpdateReport, LabelError> {
        check_batch(state, epoch, indices, features)?;
        let mut report = UpdateReport::default();
        if epoch >= self.config.start_epoch {
            let weights = self.config.momentum.weights(epoch);
            for (row, &index) in indices.iter().enumerate() {
                self.relabel(state, weights, index, row, features, &mut report);
            }
        }
        for (space, (features, labels)) in state
            .spaces
            .iter_mut()
            .zip(features.iter().zip(state.labels.rows()))
        {
            for (&index, feature) in indices.iter().zip(features.rows()) {
                let class = Class::of(labels[index], self.config.exclude_zero);
                space.replace(index, feature, class);
            }
            space.move_centres(self.config.centre_momentum);
        }
        Ok(report)
    }

    /// The relative distance `α` of a feature `[D]` in one space: positive nearer to the centre of
    /// the positive class, negative nearer to the other, 0 half-way. `None` if a class is empty.
    ///
    /// # Errors
    ///
    /// [`LabelError::SpaceCount`] if there is no such space, [`LabelError::Shape`].
    pub fn relative_distance<A: Scalar>(
        &self,
        state: &LabelState<A>,
        space: usize,
        feature: ArrayView1<A>,
    ) -> Result<Option<f64>, LabelError> {
        let space = state.spaces.get(space).ok_or(LabelError::SpaceCount {
            expected: state.spaces.len(),
            found: space + 1,
        })?;
        check_shape(
            "relative_distance",
            "feature",
            feature.shape(),
            &[space.width()],
        )?;
        Ok(self.relative(space, feature))
    }

    fn relative<A: Scalar>(&self, space: &Space<A>, feature: ArrayView1<A>) -> Option<f64> {
        let [positive, negative] =
            space
                .squared_distances(feature)?
                .map(|square| match self.config.distance {
                    Distance::Euclidean => square.sqrt(),
                    Distance::ScaledSquare => square / (space.width() as f64).sqrt(),
                });
        Some((negative - positive) / (positive + self.config.epsilon))
    }

    /// New labels of one sample in all modalities.
    fn relabel<A: Scalar>(
        &self,
        state: &mut LabelState<A>,
        [keep, take]: [f64; 2],
        index: usize,
        row: usize,
        features: &[ArrayView2<A>],
        report: &mut UpdateReport,
    ) {
        let config = &self.config;
        let limit = A::from_f64(config.label_limit);
        let multimodal = state.labels[[0, index]].as_f64();
        let mut distances = state
            .spaces
            .iter()
            .zip(features)
            .map(|(space, features)| self.relative(space, features.row(row)));
        let fused = distances.next().flatten();
        for (modality, own) in distances.enumerate() {
            let (Some(fused), Some(own)) = (fused, own) else {
                report.skipped_empty_class += 1;
                continue;
            };
            let ratio = own / (fused + config.epsilon) * multimodal;
            let difference = multimodal + own - fused;
            let new = match config.offset {
                Offset::Ratio => ratio,
                Offset::Difference => difference,
                Offset::Average => 0.5 * ratio + 0.5 * difference,
            };
            let divides = config.offset != Offset::Difference;
            let vanishes = divides && fused.abs() < config.minimum_relative_distance;
            if vanishes || !new.is_finite() {
                report.skipped_vanishing_distance += 1;
                continue;
            }
            let clamped = new.clamp(-config.label_limit, config.label_limit);
            let label = &mut state.labels[[modality + 1, index]];
            let average = keep * label.as_f64() + take * clamped;
            // Rounding may take an average of two labels at the limit beyond it.
            *label = A::from_f64(average).max(-limit).min(limit);
            report.updated += 1;
            report.clamped += usize::from(clamped != new);
        }
    }
}

/// Everything that can be wrong with a batch, before anything is changed.
fn check_batch<A: Scalar>(
    state: &mut LabelState<A>,
    epoch: usize,
    indices: &[usize],
    features: &[ArrayView2<A>],
) -> Result<(), LabelError> {
    if epoch == 0 {
        return Err(LabelError::EpochZero);
    }
    if features.len() != state.spaces.len() {
        return Err(LabelError::SpaceCount {
            expected: state.spaces.len(),
            found: features.len(),
        });
    }
    for (space, features) in state.spaces.iter().zip(features) {
        let expected = [indices.len(), space.width()];
        check_shape("label update", "features", features.shape(), &expected)?;
    }
    state.check_indices(indices)?;
    state.sorted.clear();
    state.sorted.extend_from_slice(indices);
    state.sorted.sort_unstable();
    if let Some(pair) = state.sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(LabelError::DuplicateIndex { index: pair[0] });
    }
    // Below this bound no square and no sum of features in f64 can overflow.
    let bound = f64::from(f32::MAX);
    for (space, features) in features.iter().enumerate() {
        let unusable = |value: &A| value.is_nan() || value.as_f64().abs() > bound;
        if let Some(position) = features.iter().position(unusable) {
            let (row, column) = (position / features.ncols(), position % features.ncols());
            return Err(LabelError::UnusableFeature {
                space,
                index: indices[row],
                column,
                value: features[[row, column]].as_f64(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Momentum;
    use modalign_core::Store;
    use ndarray::{Array1, array};

    /// Four samples with class centres ±1 (fused) and ±2 (modality), as epoch 1 leaves them.
    fn prepared(config: LabelGeneratorConfig) -> (LabelGenerator, LabelState<f64>) {
        let generator = LabelGenerator::new(config).unwrap();
        let labels = array![2.0, -1.0, 1.0, 0.0];
        let mut state = generator.initial_state(labels.view(), &[1, 1]).unwrap();
        let fused = array![[1.0], [-1.0], [1.0], [7.0]];
        let features = [fused.view(), (&fused * 2.0).view()].map(|view| view.to_owned());
        let views = [features[0].view(), features[1].view()];
        let report = generator
            .update(&mut state, 1, &[0, 1, 2, 3], &views)
            .unwrap();
        assert_eq!(report, UpdateReport::default());
        (generator, state)
    }

    fn stored(state: &LabelState<f64>) -> Store {
        let mut store = Store::default();
        state.insert_into(&mut store, "state");
        store
    }

    fn update(
        generator: &LabelGenerator,
        state: &mut LabelState<f64>,
        index: usize,
        features: [f64; 2],
    ) -> UpdateReport {
        let [fused, own] = features.map(|feature| array![[feature]]);
        generator
            .update(state, 2, &[index], &[fused.view(), own.view()])
            .unwrap()
    }

    #[test]
    fn each_offset_has_its_value() {
        // α_m = 2, α_s = 4/3 as in the example of the type, y_m = 1.
        for (offset, new) in [
            (Offset::Ratio, 2.0 / 3.0),
            (Offset::Difference, 1.0 / 3.0),
            (Offset::Average, 0.5),
        ] {
            let (generator, mut state) = prepared(LabelGeneratorConfig {
                offset,
                momentum: Momentum::Constant(0.25),
                ..LabelGeneratorConfig::default()
            });
            let report = update(&generator, &mut state, 2, [0.5, 0.8]);
            assert_eq!((report.updated, report.clamped), (1, 0));
            let expected = 0.25 * 1.0 + 0.75 * new;
            assert!(
                (state.labels()[[1, 2]] - expected).abs() < 1e-6,
                "{offset:?}"
            );
            assert_eq!(state.labels()[[0, 2]], 1.0);
        }
    }

    #[test]
    fn a_far_label_is_clamped_and_counted() {
        let (generator, mut state) = prepared(LabelGeneratorConfig::default());
        // The modality says far more than the fused space: α_s near its centre is huge.
        let report = update(&generator, &mut state, 0, [0.5, 1.999]);
        assert_eq!((report.updated, report.clamped), (1, 1));
        assert!((state.labels()[[1, 0]] - (2.0 / 3.0 + 2.0)).abs() < 1e-9);
    }

    #[test]
    fn a_vanishing_distance_leaves_the_label_alone_unless_told_otherwise() {
        let default = LabelGeneratorConfig::default();
        let skipped = UpdateReport {
            skipped_vanishing_distance: 1,
            ..UpdateReport::default()
        };
        let (generator, mut state) = prepared(default);
        assert_eq!(update(&generator, &mut state, 0, [0.0001, 0.8]), skipped);
        assert_eq!(state.labels()[[1, 0]], 2.0);

        let difference = LabelGeneratorConfig {
            offset: Offset::Difference,
            ..default
        };
        let (generator, mut state) = prepared(difference);
        assert_eq!(update(&generator, &mut state, 0, [0.0001, 0.8]).updated, 1);

        let (generator, mut state) = prepared(LabelGeneratorConfig::mmsa());
        let report = update(&generator, &mut state, 0, [0.0001, 0.8]);
        assert_eq!((report.updated, report.clamped), (1, 1));
    }

    #[test]
    fn an_infinite_label_is_never_stored() {
        // D⁺ = 0 and almost no ε: the relative distance overflows.
        let (generator, mut state) = prepared(LabelGeneratorConfig {
            epsilon: f64::MIN_POSITIVE,
            minimum_relative_distance: 0.0,
            ..LabelGeneratorConfig::default()
        });
        let report = update(&generator, &mut state, 0, [0.0, 2.0]);
        assert_eq!(report.skipped_vanishing_distance, 1);
        assert_eq!(state.labels()[[1, 0]], 2.0);
    }

    #[test]
    fn an_empty_class_leaves_the_labels_alone() {
        let generator = LabelGenerator::new(LabelGeneratorConfig::default()).unwrap();
        let labels = array![1.0, 2.0, 0.0];
        let mut state = generator.initial_state(labels.view(), &[2, 1, 3]).unwrap();
        for epoch in 1..4 {
            let features = [2, 1, 3].map(|width| Array2::from_elem((3, width), epoch as f64));
            let views = [0, 1, 2].map(|space| features[space].view());
            let report = generator
                .update(&mut state, epoch, &[0, 1, 2], &views)
                .unwrap();
            let expected = if epoch < 2 { 0 } else { 6 };
            assert_eq!(report.skipped_empty_class, expected);
            assert_eq!(report.updated, 0);
        }
        assert!(state.centre(0, Class::Negative).is_none());
        assert_eq!(state.class_size(0, Class::Positive), 2);
        for row in state.labels().rows() {
            assert_eq!(row, labels);
        }
    }

    #[test]
    fn unseen_samples_count_where_the_option_says() {
        for (config, sizes) in [
            (LabelGeneratorConfig::default(), [0, 0]),
            (LabelGeneratorConfig::mmsa(), [1, 2]),
            (LabelGeneratorConfig::self_mm(), [2, 2]),
        ] {
            let generator = LabelGenerator::new(config).unwrap();
            let labels = array![0.5, -0.5, 0.0, -1.0];
            let mut state = generator.initial_state(labels.view(), &[1, 1]).unwrap();
            let size = |state: &LabelState<f64>| {
                [Class::Positive, Class::Negative].map(|class| state.class_size(0, class))
            };
            assert_eq!(size(&state), sizes);
            let feature = array![[4.0]];
            let views = [feature.view(), feature.view()];
            generator.update(&mut state, 1, &[1], &views).unwrap();
            let negative = state.centre(0, Class::Negative).unwrap();
            assert_eq!(negative[0], 4.0 / sizes[1].max(1) as f64);
        }
    }

    #[test]
    fn loss_weights_and_targets_follow_the_labels() {
        let (generator, mut state) = prepared(LabelGeneratorConfig::default());
        assert_eq!(state.loss_weights(&[2, 0]).unwrap(), array![[0.0, 0.0]]);
        update(&generator, &mut state, 0, [0.5, 0.8]);
        let label = state.labels()[[1, 0]];
        assert!(label < 2.0);
        assert_eq!(
            state.targets(&[2, 0]).unwrap(),
            array![[1.0, 2.0], [1.0, label]]
        );
        let weights = state.loss_weights(&[2, 0]).unwrap();
        assert_eq!(weights, array![[0.0, (2.0 - label).tanh()]]);
        assert!(matches!(
            state.targets(&[4]),
            Err(LabelError::IndexOutOfRange {
                index: 4,
                samples: 4
            })
        ));
        assert!(state.loss_weights(&[4]).is_err());
    }

    #[test]
    fn the_relative_distance_is_public() {
        let (generator, state) = prepared(LabelGeneratorConfig::default());
        let found = generator
            .relative_distance(&state, 1, array![0.8].view())
            .unwrap();
        assert!((found.unwrap() - 4.0 / 3.0).abs() < 1e-7);
        let scaled = LabelGenerator::new(LabelGeneratorConfig {
            distance: Distance::ScaledSquare,
            ..LabelGeneratorConfig::default()
        });
        let found = scaled
            .unwrap()
            .relative_distance(&state, 1, array![0.8].view())
            .unwrap();
        assert!((found.unwrap() - (2.8_f64.powi(2) / 1.2_f64.powi(2) - 1.0)).abs() < 1e-7);
        let wide = array![0.8, 0.1];
        assert!(generator.relative_distance(&state, 1, wide.view()).is_err());
        assert!(
            generator
                .relative_distance(&state, 2, array![0.8].view())
                .is_err()
        );
    }

    #[test]
    fn a_bad_batch_changes_nothing() {
        let (generator, mut state) = prepared(LabelGeneratorConfig::default());
        let before = stored(&state);
        let good = array![[0.5], [0.25]];
        let narrow = array![[0.5]];
        let wide = array![[0.5, 0.1], [0.25, 0.1]];
        let nan = array![[0.5], [f64::NAN]];
        let huge = array![[1e39], [0.5]];
        let mut fails = |epoch, indices: &[usize], features: &[&Array2<f64>]| {
            let views: Vec<_> = features.iter().map(|features| features.view()).collect();
            let error = generator
                .update(&mut state, epoch, indices, &views)
                .unwrap_err();
            assert_eq!(stored(&state), before, "{error}");
            error
        };
        let pair = [&good, &good];
        assert!(matches!(fails(0, &[0, 1], &pair), LabelError::EpochZero));
        assert!(matches!(
            fails(2, &[0, 1], &[&good]),
            LabelError::SpaceCount {
                expected: 2,
                found: 1
            }
        ));
        assert!(matches!(
            fails(2, &[0, 1], &[&good, &narrow]),
            LabelError::Shape(_)
        ));
        assert!(matches!(
            fails(2, &[0, 1], &[&wide, &good]),
            LabelError::Shape(_)
        ));
        assert!(matches!(
            fails(2, &[0, 4], &pair),
            LabelError::IndexOutOfRange {
                index: 4,
                samples: 4
            }
        ));
        assert!(matches!(
            fails(2, &[3, 3], &pair),
            LabelError::DuplicateIndex { index: 3 }
        ));
        assert!(matches!(
            fails(2, &[0, 3], &[&good, &nan]),
            LabelError::UnusableFeature { space: 1, index: 3, column: 0, value } if value.is_nan()
        ));
        assert!(matches!(
            fails(2, &[2, 3], &[&huge, &good]),
            LabelError::UnusableFeature {
                space: 0,
                index: 2,
                ..
            }
        ));
    }

    #[test]
    fn a_bad_start_is_refused() {
        let generator = LabelGenerator::new(LabelGeneratorConfig {
            label_limit: 0.1,
            ..LabelGeneratorConfig::default()
        })
        .unwrap();
        let start = |labels: &[f64], widths: &[usize]| {
            generator
                .initial_state(ArrayView1::from(labels), widths)
                .unwrap_err()
        };
        assert!(matches!(start(&[], &[1, 1]), LabelError::NoSamples));
        assert!(matches!(
            start(&[0.0], &[1]),
            LabelError::TooFewSpaces { found: 1 }
        ));
        assert!(matches!(
            start(&[0.0], &[1, 0]),
            LabelError::ZeroWidth { space: 1 }
        ));
        for bad in [0.11, f64::NAN, f64::NEG_INFINITY] {
            assert!(matches!(
                start(&[0.1, bad], &[1, 1]),
                LabelError::LabelOutOfRange { index: 1, .. }
            ));
        }
        // The limit is compared in the type of the labels: 0.1_f32 widened is above 0.1.
        let single: Array1<f32> = array![0.1];
        assert!(generator.initial_state(single.view(), &[1, 1]).is_ok());

        let invalid = LabelGeneratorConfig {
            epsilon: -1.0,
            ..LabelGeneratorConfig::default()
        };
        assert!(LabelGenerator::new(invalid).is_err());
    }
}
