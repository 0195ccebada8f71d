use indexmap::IndexMap;
use modalign_core::{Stream, rng};
use ndarray::{Array1, Array2, Array3};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Sequences, Split};

/// Describes a data set whose shared and private factors are known.
///
/// One row has `k` shared factors `z` and, for each modality `m`, `q` private factors `p_m`. A
/// modality shows a blurred copy of the shared factors and its own private ones; the label is
/// driven by the shared factors and by the first half of every private set.
///
/// ```text
/// z, p_m, e_m, ε ~ N(0, I)
/// s_m      = ρ_m z + √(1 − ρ_m²) e_m                         what m shows of the shared factors
/// h_m      = (s_m, p_m)
/// x_m[t,d] = Σ_j a_m[j,d] h_m[j] cos(π (j mod 3) t / T_m) / √(k + q) + σ_m ε[t,d]
/// u        = √ω_z 1ᵀz/√k + Σ_m √ω_m 1ᵀp_m[..r]/√r + √ω_ε ε,  r = ⌈q/2⌉,  Σ ω = 1
/// y        = (μ + σ u), rounded to fifths, within [−3, 3]
/// ```
///
/// The loadings `a_m[j,d] ~ N(0, 1)` are the same for all rows and splits. Factors `j` with
/// `j mod 3 = 0` show in the mean over time; the others need a model that sees the order of the
/// steps. The length `T_m` of a row is uniform between a fifth of `steps` and `steps`, at least 1.
/// Labels in fifths are means over five raters; some are exactly 0.
///
/// The default is of the size of CMU-MOSI, with text the most telling modality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratedConfig {
    /// Same seed, same data.
    pub seed: u64,
    /// Rows of the train split, at least 1.
    pub train_rows: usize,
    /// Rows of the valid split, at least 1.
    pub valid_rows: usize,
    /// Rows of the test split, at least 1.
    pub test_rows: usize,
    /// k, at least 1.
    pub shared_factors: usize,
    /// q, at least 1.
    pub private_factors: usize,
    /// The part ω_z that the shared factors have in the label, relative to the other parts: at
    /// least 0, and not all of them 0.
    pub shared_label_part: f64,
    /// The part ω_ε that no modality tells, at least 0.
    pub noise_label_part: f64,
    /// μ, finite.
    pub label_mean: f64,
    /// σ, positive: the spread of labels before they are bounded.
    pub label_spread: f64,
    /// The text modality, key `text`.
    pub text: GeneratedModality,
    /// The audio modality, key `audio`.
    pub audio: GeneratedModality,
    /// The vision modality, key `vision`.
    pub vision: GeneratedModality,
}

/// One modality of [`GeneratedConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratedModality {
    /// The largest T, at least 1.
    pub steps: usize,
    /// D, at least 1.
    pub width: usize,
    /// ρ, the correlation of what it shows with the shared factors, `0..=1`.
    pub correlation: f64,
    /// The part ω of its private factors in the label, at least 0.
    pub label_part: f64,
    /// σ, the standard deviation of the noise on each value, at least 0.
    pub noise: f64,
}

impl Default for GeneratedConfig {
    fn default() -> Self {
        let modality = |steps, width, correlation, label_part| GeneratedModality {
            steps,
            width,
            correlation,
            label_part,
            noise: 1.0,
        };
        Self {
            seed: 1111,
            train_rows: 1284,
            valid_rows: 229,
            test_rows: 686,
            shared_factors: 8,
            private_factors: 4,
            shared_label_part: 0.55,
            noise_label_part: 0.1,
            label_mean: 0.15,
            label_spread: 1.7,
            text: modality(1, 768, 0.8, 0.2),
            audio: modality(50, 5, 0.5, 0.08),
            vision: modality(50, 20, 0.4, 0.07),
        }
    }
}

/// A generated data set with what it was generated from.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The data.
    pub dataset: Dataset,
    /// The factors behind the rows of `dataset.train`.
    pub train: Factors,
    /// The factors behind the rows of `dataset.valid`.
    pub valid: Factors,
    /// The factors behind the rows of `dataset.test`.
    pub test: Factors,
}

/// What no reader of real data knows: the factors behind the rows of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// z, `[N, k]`.
    pub shared: Array2<f32>,
    /// p_m, `[N, q]`, by `text`, `audio` and `vision`.
    pub private: IndexMap<String, Array2<f32>>,
    /// The label as one modality tells it, `[N]`, by `T`, `A` and `V`: its best linear estimate of
    /// u, brought to variance 1, in place of u.
    ///
    /// ```text
    /// u_m = (√ω_z ρ_m 1ᵀs_m/√k + √ω_m 1ᵀp_m[..r]/√r) / √(ω_z ρ_m² + ω_m)
    /// ```
    pub unimodal_labels: IndexMap<String, Array1<f32>>,
}

/// The bound of labels.
const LABEL_BOUND: f64 = 3.0;
/// Raters a label is the mean of.
const RATERS: f64 = 5.0;
/// The shortest length is this part of the longest.
const SHORTEST: usize = 5;

impl GeneratedConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`DataError::Config`] for the first field that is out of its range.
    pub fn validate(&self) -> Result<(), DataError> {
        let counts = [
            ("train_rows", self.train_rows),
            ("valid_rows", self.valid_rows),
            ("test_rows", self.test_rows),
            ("shared_factors", self.shared_factors),
            ("private_factors", self.private_factors),
            ("text.steps", self.text.steps),
            ("audio.steps", self.audio.steps),
            ("vision.steps", self.vision.steps),
            ("text.width", self.text.width),
            ("audio.width", self.audio.width),
            ("vision.width", self.vision.width),
        ];
        for (field, count) in counts {
            check(field, "at least 1", count >= 1, count)?;
        }
        let parts = [
            ("shared_label_part", self.shared_label_part),
            ("noise_label_part", self.noise_label_part),
            ("text.label_part", self.text.label_part),
            ("audio.label_part", self.audio.label_part),
            ("vision.label_part", self.vision.label_part),
            ("text.noise", self.text.noise),
            ("audio.noise", self.audio.noise),
            ("vision.noise", self.vision.noise),
        ];
        for (field, part) in parts {
            check(field, "at least 0", part >= 0.0 && part.is_finite(), part)?;
        }
        let correlations = [
            ("text.correlation", self.text.correlation),
            ("audio.correlation", self.audio.correlation),
            ("vision.correlation", self.vision.correlation),
        ];
        for (field, correlation) in correlations {
            check(
                field,
                "0 to 1",
                (0.0..=1.0).contains(&correlation),
                correlation,
            )?;
        }
        let (mean, spread) = (self.label_mean, self.label_spread);
        check("label_mean", "finite", mean.is_finite(), mean)?;
        check(
            "label_spread",
            "positive",
            spread > 0.0 && spread.is_finite(),
            spread,
        )?;
        let total = self.label_parts();
        check(
            "shared_label_part",
            "not 0 with all other parts",
            total > 0.0,
            0.0,
        )
    }

    fn modalities(&self) -> [(&'static str, &'static str, &GeneratedModality); 3] {
        [
            ("text", "T", &self.text),
            ("audio", "A", &self.audio),
            ("vision", "V", &self.vision),
        ]
    }

    fn label_parts(&self) -> f64 {
        let private: f64 = self.modalities().iter().map(|(_, _, m)| m.label_part).sum();
        self.shared_label_part + self.noise_label_part + private
    }

    fn label(&self, u: f64) -> f32 {
        let value = self.label_mean + self.label_spread * u;
        let rounded = (RATERS * value).round() / RATERS;
        // Adding 0 turns a negative zero into the positive one.
        (rounded.clamp(-LABEL_BOUND, LABEL_BOUND) + 0.0) as f32
    }
}

fn check(
    field: &'static str,
    expected: &'static str,
    holds: bool,
    found: impl ToString,
) -> Result<(), DataError> {
    if holds {
        return Ok(());
    }
    Err(DataError::Config {
        field,
        expected,
        found: found.to_string(),
    })
}

/// Draws the data set that a configuration describes.
///
/// # Errors
///
/// [`DataError::Config`], from [`GeneratedConfig::validate`].
///
/// ```
/// use modalign_data::{GeneratedConfig, generate};
///
/// let generated = generate(&GeneratedConfig::default())?;
/// let train = &generated.dataset.train;
/// assert_eq!(train.features["vision"].values.dim(), (1284, 50, 20));
/// assert_eq!(generated.train.shared.dim(), (1284, 8));
/// assert!(train.labels.iter().all(|label| label.abs() <= 3.0));
/// # Ok::<(), modalign_data::DataError>(())
/// ```
pub fn generate(config: &GeneratedConfig) -> Result<Generated, DataError> {
    config.validate()?;
    let mut rng = rng(config.seed, Stream::Generation);
    let factors = config.shared_factors + config.private_factors;
    let loadings = config
        .modalities()
        .map(|(_, _, modality)| normal([factors, modality.width], &mut rng));
    let (train, train_factors) = split(config, &loadings, "train", config.train_rows, &mut rng);
    let (valid, valid_factors) = split(config, &loadings, "valid", config.valid_rows, &mut rng);
    let (test, test_factors) = split(config, &loadings, "test", config.test_rows, &mut rng);
    Ok(Generated {
        dataset: Dataset { train, valid, test },
        train: train_factors,
        valid: valid_factors,
        test: test_factors,
    })
}

fn normal(shape: [usize; 2], rng: &mut impl Rng) -> Array2<f64> {
    Array2::from_shape_simple_fn(shape, || rng.sample(StandardNormal))
}

fn split(
    config: &GeneratedConfig,
    loadings: &[Array2<f64>; 3],
    name: &str,
    rows: usize,
    rng: &mut impl Rng,
) -> (Split, Factors) {
    let (k, q) = (config.shared_factors, config.private_factors);
    let telling = q.div_ceil(2);
    let total = config.label_parts();
    let shared_part = config.shared_label_part / total;
    // 1ᵀz/√k and 1ᵀp[..r]/√r, row by row.
    let direction = |factors: &Array2<f64>, count: usize| {
        let sums = factors
            .outer_iter()
            .map(|row| row.iter().take(count).sum::<f64>());
        sums.map(|sum| sum / (count as f64).sqrt())
            .collect::<Array1<f64>>()
    };

    let shared = normal([rows, k], rng);
    let noise = normal([rows, 1], rng).column(0).to_owned();
    let mut drive = direction(&shared, k) * shared_part.sqrt()
        + noise * (config.noise_label_part / total).sqrt();
    let mut features = IndexMap::new();
    let mut private_factors = IndexMap::new();
    let mut unimodal_labels = IndexMap::new();
    for ((key, letter, modality), loadings) in config.modalities().into_iter().zip(loadings) {
        let rho = modality.correlation;
        let part = modality.label_part / total;
        let shown = &shared * rho + normal([rows, k], rng) * (1.0 - rho * rho).sqrt();
        let private = normal([rows, q], rng);
        let own = direction(&private, telling) * part.sqrt();
        drive += &own;
        let told = direction(&shown, k) * (shared_part.sqrt() * rho) + own;
        // A modality that tells nothing has the mean label everywhere.
        let spread = (shared_part * rho * rho + part)
            .sqrt()
            .max(f64::MIN_POSITIVE);
        let labels = told.mapv(|told| config.label(told / spread));
        unimodal_labels.insert(letter.to_owned(), labels);
        let shown = ndarray::concatenate![ndarray::Axis(1), shown, private];
        features.insert(key.to_owned(), sequences(modality, &shown, loadings, rng));
        private_factors.insert(key.to_owned(), private.mapv(|value| value as f32));
    }
    let split = Split {
        id: (0..rows).map(|row| format!("{name}_{row}")).collect(),
        raw_text: None,
        text_bert: None,
        features,
        file_features: IndexMap::new(),
        labels: drive.mapv(|u| config.label(u)),
        unimodal_labels: IndexMap::new(),
    };
    let factors = Factors {
        shared: shared.mapv(|value| value as f32),
        private: private_factors,
        unimodal_labels,
    };
    (split, factors)
}

/// `shown` is h, `[N, k + q]`.
fn sequences(
    modality: &GeneratedModality,
    shown: &Array2<f64>,
    loadings: &Array2<f64>,
    rng: &mut impl Rng,
) -> Sequences {
    let (rows, factors) = shown.dim();
    let shortest = modality.steps.div_ceil(SHORTEST);
    let mut values = Array3::zeros((rows, modality.steps, modality.width));
    let mut lengths = Vec::with_capacity(rows);
    let mut clean = Array1::zeros(modality.width);
    for (shown, mut target) in shown.outer_iter().zip(values.outer_iter_mut()) {
        let length = rng.random_range(shortest..=modality.steps);
        lengths.push(length);
        for (t, mut step) in target.outer_iter_mut().take(length).enumerate() {
            let phase = std::f64::consts::PI * t as f64 / length as f64;
            let profiles = [1.0, phase.cos(), (2.0 * phase).cos()];
            clean.fill(0.0);
            for (j, (factor, loading)) in shown.iter().zip(loadings.outer_iter()).enumerate() {
                clean.scaled_add(factor * profiles[j % 3] / (factors as f64).sqrt(), &loading);
            }
            for (value, &clean) in step.iter_mut().zip(&clean) {
                let noise: f64 = rng.sample(StandardNormal);
                *value = (clean + modality.noise * noise) as f32;
            }
        }
    }
    Sequences { values, lengths }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Axis, s};

    fn small() -> GeneratedConfig {
        let modality = |steps, width| GeneratedModality {
            steps,
            width,
            ..GeneratedConfig::default().audio
        };
        GeneratedConfig {
            train_rows: 6,
            valid_rows: 2,
            test_rows: 3,
            text: modality(1, 4),
            audio: modality(7, 2),
            vision: modality(4, 3),
            ..GeneratedConfig::default()
        }
    }

    fn correlation(left: &Array1<f32>, right: &Array1<f32>) -> f64 {
        let centred = |values: &Array1<f32>| {
            let values = values.mapv(f64::from);
            &values - values.sum() / values.len() as f64
        };
        let (left, right) = (centred(left), centred(right));
        left.dot(&right) / (left.dot(&left) * right.dot(&right)).sqrt()
    }

    #[test]
    fn one_seed_gives_one_data_set() {
        let config = small();
        assert_eq!(generate(&config).unwrap(), generate(&config).unwrap());
        let other = GeneratedConfig {
            seed: 1112,
            ..small()
        };
        assert_ne!(
            generate(&config).unwrap().dataset.train.labels,
            generate(&other).unwrap().dataset.train.labels
        );
    }

    #[test]
    fn the_values_of_a_seed_stay_the_same() {
        let generated = generate(&small()).unwrap();
        let train = &generated.dataset.train;
        assert_eq!(train.labels.to_vec(), [-0.2, 1.2, -0.6, -1.6, -0.6, -1.8]);

        assert_eq!(train.features["audio"].lengths, [3, 4, 7, 4, 6, 7]);
        let found = [
            train.features["text"].values[[0, 0, 0]],
            train.features["audio"].values[[1, 0, 1]],
            generated.dataset.test.features["vision"].values[[2, 0, 2]],
            generated.valid.shared[[1, 7]],
        ];
        let expected = [0.5015296, 2.2297058, 0.9240087, 0.9510154];
        approx::assert_abs_diff_eq!(found[..], expected[..], epsilon = 1e-5);
    }

    #[test]
    fn shapes_and_padding_are_those_of_the_readers() {
        let generated = generate(&small()).unwrap();
        let dataset = &generated.dataset;
        let splits = [
            (&dataset.train, &generated.train, 6),
            (&dataset.valid, &generated.valid, 2),
            (&dataset.test, &generated.test, 3),
        ];
        for (split, factors, rows) in splits {
            assert_eq!((split.len(), split.id.len()), (rows, rows));
            assert_eq!(factors.shared.dim(), (rows, 8));
            assert_eq!(factors.unimodal_labels["V"].len(), rows);
            for (key, steps, width) in [("text", 1, 4), ("audio", 7, 2), ("vision", 4, 3)] {
                let features = &split.features[key];
                assert_eq!(features.values.dim(), (rows, steps, width));
                assert_eq!(factors.private[key].dim(), (rows, 4));
                for (row, &length) in features.values.outer_iter().zip(&features.lengths) {
                    assert!((1..=steps).contains(&length) && length >= steps / 5);
                    assert!(
                        row.slice(s![..length, ..])
                            .iter()
                            .all(|&value| value != 0.0)
                    );
                    assert!(
                        row.slice(s![length.., ..])
                            .iter()
                            .all(|&value| value == 0.0)
                    );
                }
            }
        }
    }

    #[test]
    fn labels_are_fifths_within_bounds_and_sometimes_zero() {
        let dataset = generate(&GeneratedConfig::default()).unwrap().dataset;
        let pooled = dataset.pool().unwrap();
        for &label in &pooled.labels {
            assert!((-3.0..=3.0).contains(&label));
            assert!(((5.0 * label).round() - 5.0 * label).abs() < 1e-5);
            assert!(label != 0.0 || label.is_sign_positive());
        }
        let zeros = pooled.labels.iter().filter(|&&label| label == 0.0).count();
        assert!((40..200).contains(&zeros), "{zeros} of {}", pooled.len());
    }

    /// The parts of the label's variance are its squared correlations. Rounding and bounding cost
    /// some of it, and with 4000 rows a correlation is good to about 0.02.
    #[test]
    fn factors_drive_the_label_as_stated() {
        let config = GeneratedConfig {
            train_rows: 4000,
            text: GeneratedModality {
                width: 1,
                ..GeneratedConfig::default().text
            },
            ..GeneratedConfig::default()
        };
        let generated = generate(&config).unwrap();
        let labels = &generated.dataset.train.labels;
        let factors = &generated.train;
        let assert_close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 0.05, "{found} for {expected}");
        };
        assert_close(
            correlation(labels, &factors.shared.sum_axis(Axis(1))),
            0.55_f64.sqrt(),
        );
        for (key, letter, rho, part) in [
            ("text", "T", 0.8, 0.2),
            ("audio", "A", 0.5, 0.08),
            ("vision", "V", 0.4, 0.07_f64),
        ] {
            let private = &factors.private[key];
            let telling = private.slice(s![.., ..2]).sum_axis(Axis(1));
            assert_close(correlation(labels, &telling), part.sqrt());
            let silent = private.slice(s![.., 2..]).sum_axis(Axis(1));
            assert_close(correlation(labels, &silent), 0.0);
            let told = 0.55 * rho * rho + part;
            assert_close(
                correlation(labels, &factors.unimodal_labels[letter]),
                told.sqrt(),
            );
        }
    }

    /// Without noise and blur a step is linear in the factors. With as many rows of T = 1 as
    /// factors, the loadings follow from Cramer's rule, and must explain the other rows.
    #[test]
    fn features_show_the_factors_linearly() {
        let text = GeneratedModality {
            steps: 1,
            width: 3,
            correlation: 1.0,
            label_part: 0.2,
            noise: 0.0,
        };
        let config = GeneratedConfig {
            shared_factors: 1,
            private_factors: 1,
            text,
            ..small()
        };
        let generated = generate(&config).unwrap();
        let shared = &generated.train.shared;
        let private = &generated.train.private["text"];
        let values = &generated.dataset.train.features["text"].values;
        let (z, p) = (|n: usize| shared[[n, 0]], |n: usize| private[[n, 0]]);
        let determinant = z(0) * p(1) - z(1) * p(0);
        for d in 0..3 {
            let x = |n: usize| values[[n, 0, d]];
            let of_z = (x(0) * p(1) - x(1) * p(0)) / determinant;
            let of_p = (z(0) * x(1) - z(1) * x(0)) / determinant;
            for n in 2..6 {
                approx::assert_abs_diff_eq!(x(n), of_z * z(n) + of_p * p(n), epsilon = 1e-4);
            }
        }
    }

    #[test]
    fn the_order_of_steps_tells_what_their_mean_does_not() {
        let audio = GeneratedModality {
            steps: 40,
            width: 1,
            noise: 0.0,
            ..GeneratedConfig::default().audio
        };
        let config = GeneratedConfig {
            shared_factors: 2,
            private_factors: 1,
            train_rows: 60,
            audio,
            ..small()
        };
        let mut checked = 0;
        let features = &generate(&config).unwrap().dataset.train.features["audio"];
        // Three factors, one of each profile: 1, cos and cos of twice the phase.
        for row in features.rows() {
            let length = row.nrows();
            let level = |t: usize| f64::from(row[[t, 0]]);
            if length % 4 == 0 {
                // At phases 0, π/4, π/2 and 3π/4 the profiles are known; what follows from three
                // of them must give the fourth.
                let [x0, x1, x2, x3] = [0, 1, 2, 3].map(|quarter| level(quarter * length / 4));
                let constant = (x1 + x3) / 2.0;
                let cosine = (x1 - x3) / 2.0_f64.sqrt();
                let double = constant - x2;
                assert!((constant + cosine + double - x0).abs() < 1e-5);
                checked += 1;
            }
        }
        assert!(checked > 5);
    }

    #[test]
    fn the_default_is_valid_and_survives_json() {
        let config = GeneratedConfig::default();
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<GeneratedConfig>(&json).unwrap(),
            config
        );
        let partial: GeneratedConfig = serde_json::from_str(r#"{"train_rows": 5}"#).unwrap();
        assert_eq!(
            partial,
            GeneratedConfig {
                train_rows: 5,
                ..config
            }
        );
        assert!(serde_json::from_str::<GeneratedConfig>(r#"{"rows": 5}"#).is_err());
    }

    #[test]
    fn each_field_has_a_range() {
        let changes: [(&str, fn(&mut GeneratedConfig)); 25] = [
            ("train_rows", |c| c.train_rows = 0),
            ("valid_rows", |c| c.valid_rows = 0),
            ("test_rows", |c| c.test_rows = 0),
            ("shared_factors", |c| c.shared_factors = 0),
            ("private_factors", |c| c.private_factors = 0),
            ("text.steps", |c| c.text.steps = 0),
            ("audio.steps", |c| c.audio.steps = 0),
            ("vision.steps", |c| c.vision.steps = 0),
            ("text.width", |c| c.text.width = 0),
            ("audio.width", |c| c.audio.width = 0),
            ("vision.width", |c| c.vision.width = 0),
            ("shared_label_part", |c| c.shared_label_part = -0.1),
            ("noise_label_part", |c| c.noise_label_part = f64::INFINITY),
            ("text.label_part", |c| c.text.label_part = -1.0),
            ("audio.label_part", |c| c.audio.label_part = f64::NAN),
            ("vision.label_part", |c| c.vision.label_part = -1.0),
            ("text.noise", |c| c.text.noise = -1.0),
            ("audio.noise", |c| c.audio.noise = f64::NAN),
            ("vision.noise", |c| c.vision.noise = -1e-9),
            ("text.correlation", |c| c.text.correlation = 1.1),
            ("audio.correlation", |c| c.audio.correlation = -0.1),
            ("vision.correlation", |c| c.vision.correlation = f64::NAN),
            ("label_mean", |c| c.label_mean = f64::NAN),
            ("label_spread", |c| c.label_spread = 0.0),
            ("shared_label_part", |c| {
                c.shared_label_part = 0.0;
                c.noise_label_part = 0.0;
                for modality in [&mut c.text, &mut c.audio, &mut c.vision] {
                    modality.label_part = 0.0;
                }
            }),
        ];
        for (expected, change) in changes {
            let mut config = small();
            change(&mut config);
            assert!(matches!(
                generate(&config).unwrap_err(),
                DataError::Config { field, .. } if field == expected
            ));
        }
    }
}
