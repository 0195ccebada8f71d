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
