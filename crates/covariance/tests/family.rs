//! Every distance, with shrinkage, row weights, missing rows and running covariances: values against
//! loops, gradients against central differences, and what each is for.

#![allow(clippy::unwrap_used)]

use approx::assert_relative_eq;
use modalign_covariance::{
    Batch, CovarianceError, Distance, PairWeights, Route, RunningCovariance, Separation,
    SharedInformation, SharedInformationConfig, Shrinkage, VarianceFloor,
};
use modalign_gradcheck::check_gradient;
use ndarray::{Array, Array1, Array2, ArrayView2, Axis, array, s};
use proptest::prelude::*;

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    use rand::{RngExt, SeedableRng};
    let mut rng = modalign_core::ChaCha8Rng::seed_from_u64(seed);
    Array::from_shape_simple_fn((rows, columns), || rng.random_range(-1.5..1.5))
}

/// One modality with everything a batch may have.
#[derive(Debug, Clone)]
struct Modality {
    features: Array2<f64>,
    weights: Option<Array1<f64>>,
    running: Option<RunningCovariance<f64>>,
}

impl Modality {
    fn batch(&self) -> Batch<'_, f64> {
        Batch {
            features: self.features.view(),
            weights: self.weights.as_ref().map(|weights| weights.view()),
            running: self.running.as_ref(),
        }
    }
}

fn batches(modalities: &[Modality]) -> Vec<Batch<'_, f64>> {
    modalities.iter().map(Modality::batch).collect()
}

fn evaluate(
    config: SharedInformationConfig,
    weights: &PairWeights,
    modalities: &[Modality],
) -> (f64, Vec<Array2<f64>>) {
    let mut loss = SharedInformation::new(config, weights.clone()).unwrap();
    let mut gradients: Vec<_> = modalities
        .iter()
        .map(|one| Array2::from_elem(one.features.raw_dim(), f64::NAN))
        .collect();
    let total = loss
        .value_and_gradient(&batches(modalities), &mut gradients)
        .unwrap()
        .total;
    assert_eq!(loss.value(&batches(modalities)).unwrap().total, total);
    (total, gradients)
}

/// `Σ_n w_n (x_n − m)(y_n − m')ᵀ / ν` by loops.
fn naive_cross(
    x: &Array2<f64>,
    y: &Array2<f64>,
    weights: &Array1<f64>,
    ddof: usize,
) -> Array2<f64> {
    let sum: f64 = weights.sum();
    let divisor = sum - ddof as f64 * weights.mapv(|w| w * w).sum() / sum;
    let rows = || (0..x.nrows()).filter(|&n| weights[n] > 0.0);
    let mean =
        |x: &Array2<f64>, k: usize| rows().map(|n| weights[n] * x[[n, k]]).sum::<f64>() / sum;
    Array2::from_shape_fn((x.ncols(), y.ncols()), |(k, l)| {
        let (mx, my) = (mean(x, k), mean(y, l));
        rows()
            .map(|n| weights[n] * (x[[n, k]] - mx) * (y[[n, l]] - my))
            .sum::<f64>()
            / divisor
    })
}

fn row_weights(one: &Modality) -> Array1<f64> {
    one.weights
        .clone()
        .unwrap_or_else(|| Array1::ones(one.features.nrows()))
}

/// The estimate of one covariance: weighted, blended, shrunk.
fn naive_estimate(config: &SharedInformationConfig, one: &Modality) -> Array2<f64> {
    let weights = row_weights(one);
    let x = &one.features;
    let mut c = naive_cross(x, x, &weights, config.ddof);
    if let Some(running) = &one.running {
        let json = serde_json::to_value(running).unwrap();
        let (decay, steps) = (
            json["decay"].as_f64().unwrap(),
            json["steps"].as_i64().unwrap(),
        );
        let past = running.covariance().unwrap() * (1.0 - decay.powi(steps as i32));
        c = (past * decay + c * (1.0 - decay)) / (1.0 - decay.powi(steps as i32 + 1));
    }
    let d = c.ncols();
    let lambda = match config.shrinkage {
        Shrinkage::None => 0.0,
        Shrinkage::Fixed(lambda) => lambda,
        Shrinkage::LedoitWolf => {
            let s = naive_cross(x, x, &weights, 0);
            let mu = s.diag().sum() / d as f64;
            let dispersion = (&s - Array2::<f64>::eye(d) * mu).mapv(|x| x * x).sum();
            let present: Vec<_> = (0..x.nrows()).filter(|&n| weights[n] > 0.0).collect();
            let n = present.len() as f64;
            let mean = x.select(Axis(0), &present).mean_axis(Axis(0)).unwrap();
            let error: f64 = present
                .iter()
                .map(|&row| {
                    let a = (&x.row(row) - &mean).insert_axis(Axis(1));
                    (a.dot(&a.t()) - &s).mapv(|x| x * x).sum() / (n * n)
                })
                .sum();
            if dispersion > 0.0 {
                error.min(dispersion) / dispersion
            } else {
                0.0
            }
        }
    };
    let mu = c.diag().sum() / d as f64;
    c * (1.0 - lambda) + Array2::<f64>::eye(d) * (lambda * mu)
}

fn naive_correlation(c: &Array2<f64>, epsilon: f64) -> Array2<f64> {
    Array2::from_shape_fn(c.raw_dim(), |(k, l)| {
        c[[k, l]] / ((c[[k, k]] + epsilon) * (c[[l, l]] + epsilon)).sqrt()
    })
}

#[cfg(feature = "eigh")]
/// `f` of a symmetric matrix by Jacobi rotations.
fn naive_function(matrix: &Array2<f64>, f: impl Fn(f64) -> f64) -> Array2<f64> {
    let d = matrix.nrows();
    let (mut s, mut v) = (matrix.clone(), Array2::<f64>::eye(d));
    for _ in 0..50 {
        for p in 0..d {
            for q in 0..p {
                let angle = 0.5 * (2.0 * s[[p, q]]).atan2(s[[q, q]] - s[[p, p]]);
                let mut rotation = Array2::<f64>::eye(d);
                rotation[[p, p]] = angle.cos();
                rotation[[q, q]] = angle.cos();
                rotation[[p, q]] = angle.sin();
                rotation[[q, p]] = -angle.sin();
                s = rotation.t().dot(&s).dot(&rotation);
                v = v.dot(&rotation);
            }
        }
    }
    let values = Array2::from_diag(&s.diag().mapv(|value| f(value.max(0.0))));
    v.dot(&values).dot(&v.t())
}

fn naive_distance(config: &SharedInformationConfig, first: &Modality, second: &Modality) -> f64 {
    let d = first.features.ncols();
    let mean_square = |x: Array2<f64>| x.mapv(|x| x * x).sum() / (4 * d * d) as f64;
    let estimates = || [first, second].map(|one| naive_estimate(config, one));
    let joint = || {
        let weights = (row_weights(first) * row_weights(second)).mapv(f64::sqrt);
        let cross = |x: &Modality, y: &Modality| {
            naive_cross(&x.features, &y.features, &weights, config.ddof)
        };
        [
            cross(first, first),
            cross(first, second),
            cross(second, second),
        ]
    };
    match config.distance {
        Distance::Frobenius { .. } => {
            let [a, b] = estimates();
            mean_square(a - b)
        }
        Distance::Correlation { epsilon } => {
            let [a, b] = estimates().map(|c| naive_correlation(&c, epsilon));
            mean_square(a - b)
        }
        #[cfg(feature = "eigh")]
        Distance::LogEuclidean { epsilon } => {
            let [a, b] = estimates().map(|c| naive_function(&c, |value| (value + epsilon).ln()));
            mean_square(a - b)
        }
        #[cfg(feature = "eigh")]
        Distance::BuresWasserstein { epsilon } => {
            let [a, b] = estimates().map(|c| c + Array2::<f64>::eye(d) * epsilon);
            let root = naive_function(&a, f64::sqrt);
            let middle = naive_function(&root.dot(&b).dot(&root), f64::sqrt);
            (a.diag().sum() + b.diag().sum() - 2.0 * middle.diag().sum()) / d as f64
        }
        Distance::CrossCovariance {} => {
            let [_, cross, _] = joint();
            cross.mapv(|x| x * x).mean().unwrap()
        }
        Distance::RedundancyReduction {
            off_diagonal,
            epsilon,
        } => {
            let [x, cross, y] = joint();
            let mut sum = 0.0;
            for ((k, l), &entry) in cross.indexed_iter() {
                let r = entry / ((x[[k, k]] + epsilon) * (y[[l, l]] + epsilon)).sqrt();
                sum += if k == l {
                    (1.0 - r).powi(2)
                } else {
                    off_diagonal * r * r
                };
            }
            sum / d as f64
        }
    }
}

fn naive(config: &SharedInformationConfig, weights: &PairWeights, modalities: &[Modality]) -> f64 {
    weights
        .pairs()
        .map(|(first, second, weight)| {
            let distance = naive_distance(config, &modalities[first], &modalities[second]);
            if weight < 0.0 {
                let Separation::Saturating { scale } = config.separation else {
                    panic!("the family is tested with the smooth bound");
                };
                weight * scale * distance / (scale + distance)
            } else {
                weight * distance
            }
        })
        .sum()
}

fn distances() -> impl Strategy<Value = Distance> {
    prop_oneof![
        4 => entrywise_distances(),
        2 => spectral_distances(),
    ]
}

fn entrywise_distances() -> impl Strategy<Value = Distance> {
    prop_oneof![
        Just(Distance::Frobenius { route: Route::Auto }),
        Just(Distance::Frobenius {
            route: Route::Covariance
        }),
        Just(Distance::Frobenius { route: Route::Gram }),
        (1e-3..1.0_f64).prop_map(|epsilon| Distance::Correlation { epsilon }),
        Just(Distance::CrossCovariance {}),
        (0.0..1.0_f64, 1e-3..1.0_f64).prop_map(|(off_diagonal, epsilon)| {
            Distance::RedundancyReduction {
                off_diagonal,
                epsilon,
            }
        }),
    ]
}

#[cfg(feature = "eigh")]
fn spectral_distances() -> impl Strategy<Value = Distance> {
    (1e-2..1.0_f64, any::<bool>()).prop_map(|(epsilon, logarithms)| {
        if logarithms {
            Distance::LogEuclidean { epsilon }
        } else {
            Distance::BuresWasserstein { epsilon }
        }
    })
}

#[cfg(not(feature = "eigh"))]
fn spectral_distances() -> impl Strategy<Value = Distance> {
    entrywise_distances()
}

fn shrinkages() -> impl Strategy<Value = Shrinkage> {
    prop_oneof![
        Just(Shrinkage::None),
        Just(Shrinkage::LedoitWolf),
        (0.0..=1.0_f64).prop_map(Shrinkage::Fixed),
    ]
}

/// How the rows of a batch are weighted.
#[derive(Debug, Clone, Copy)]
enum Rows {
    Alike,
    Some,
    Weighted,
}

type Problem = (SharedInformationConfig, PairWeights, Vec<Modality>);

/// Whatever goes together, drawn.
fn problems() -> impl Strategy<Value = Problem> {
    let rows = prop_oneof![Just(Rows::Alike), Just(Rows::Some), Just(Rows::Weighted)];
    let settings = (distances(), shrinkages(), 0..2_usize, 0.01..0.5_f64);
    let shape = (2..=3_usize, 5..9_usize, 1..6_usize);
    let pair_weights = prop::collection::vec(prop_oneof![0.1..2.0_f64, -2.0..-0.1_f64], 3);
    (
        settings,
        shape,
        rows,
        any::<bool>(),
        pair_weights,
        0..1000_u64,
    )
        .prop_map(
            |(settings, (count, n, d), rows, with_past, pair_weights, seed)| {
                let (distance, shrinkage, ddof, scale) = settings;
                let separation = Separation::Saturating { scale };
                let mut config = SharedInformationConfig {
                    ddof,
                    distance,
                    shrinkage,
                    separation,
                };
                if config.validate().is_err() {
                    config.shrinkage = Shrinkage::None;
                }
                let matched = matches!(
                    distance,
                    Distance::CrossCovariance {} | Distance::RedundancyReduction { .. }
                );
                let gram = distance == (Distance::Frobenius { route: Route::Gram });
                let estimated = config.shrinkage == Shrinkage::LedoitWolf;
                let rows = if estimated && matches!(rows, Rows::Weighted) {
                    Rows::Some
                } else {
                    rows
                };
                let with_past = with_past && !(matched || gram || estimated);
                let modalities = (0..count as u64)
                    .map(|modality| {
                        let seed = seed + 100 * modality;
                        let n = if matched { n } else { n + modality as usize };
                        let wide = d + usize::from(
                            distance == Distance::CrossCovariance {} && modality == 1,
                        );
                        let mut features = random(n, wide, seed);
                        let weights = match rows {
                            Rows::Alike => None,
                            Rows::Some => Some(Array1::from_shape_fn(n, |row| {
                                if row == modality as usize { 0.0 } else { 1.5 }
                            })),
                            Rows::Weighted => Some(Array1::from_shape_fn(n, |row| {
                                if row == 1 {
                                    0.0
                                } else {
                                    0.25 + ((row * 7) % 5) as f64
                                }
                            })),
                        };
                        for (mut row, weight) in features
                            .rows_mut()
                            .into_iter()
                            .zip(weights.iter().flatten())
                        {
                            if *weight == 0.0 {
                                row.fill(f64::NAN);
                            }
                        }
                        let running = with_past.then(|| {
                            let mut running = RunningCovariance::new(wide, 0.7).unwrap();
                            running
                                .update(random(6, wide, seed + 1).view(), ddof)
                                .unwrap();
                            running
                                .update(random(7, wide, seed + 2).view(), ddof)
                                .unwrap();
                            running
                        });
                        Modality {
                            features,
                            weights,
                            running,
                        }
                    })
                    .collect();
                let pairs = [
                    (0, 1, pair_weights[0]),
                    (0, 2, pair_weights[1]),
                    (1, 2, pair_weights[2]),
                ];
                let pairs = &pairs[..if count == 2 { 1 } else { 3 }];
                (
                    config,
                    PairWeights::from_pairs(count, pairs).unwrap(),
                    modalities,
                )
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn the_value_is_what_the_loops_say((config, weights, modalities) in problems()) {
        let expected = naive(&config, &weights, &modalities);
        let (found, _) = evaluate(config, &weights, &modalities);
        assert_relative_eq!(found, expected, max_relative = 1e-10, epsilon = 1e-13);
    }

    #[test]
    fn the_gradient_is_that_of_central_differences((config, weights, modalities) in problems()) {
        let (_, gradients) = evaluate(config, &weights, &modalities);
        let mut loss = SharedInformation::new(config, weights).unwrap();
        for (modality, gradient) in gradients.iter().enumerate() {
            let mut modalities = modalities.clone();
            // Central differences on the rows that are there; the others have gradient zero.
            let weights = row_weights(&modalities[modality]);
            let present: Vec<_> = (0..weights.len()).filter(|&row| weights[row] > 0.0).collect();
            let x = modalities[modality].features.select(Axis(0), &present);
            let gradient_there = gradient.select(Axis(0), &present);
            for row in (0..weights.len()).filter(|row| !present.contains(row)) {
                prop_assert!(gradient.row(row).iter().all(|&entry| entry == 0.0));
            }
            check_gradient(&format!("modality {modality}"), &x, &gradient_there, |x| {
                for (&row, x) in present.iter().zip(x.rows()) {
                    modalities[modality].features.row_mut(row).assign(&x);
                }
                loss.value(&batches(&modalities)).unwrap().total
            })
            .unwrap();
        }
    }

    #[test]
    fn row_weights_of_one_and_their_common_factor_change_nothing(
        (config, weights, mut modalities) in problems(),
        factor in 0.1..10.0_f64,
    ) {
        for one in &mut modalities {
            one.weights = None;
            one.features.mapv_inplace(|x| if x.is_nan() { 0.5 } else { x });
        }
        let (plain, plain_gradients) = evaluate(config, &weights, &modalities);
        for one in &mut modalities {
            one.weights = Some(Array1::from_elem(one.features.nrows(), factor));
        }
        let (weighted, weighted_gradients) = evaluate(config, &weights, &modalities);
        assert_relative_eq!(weighted, plain, max_relative = 1e-10, epsilon = 1e-13);
        for (weighted, plain) in weighted_gradients.iter().zip(&plain_gradients) {
            assert_relative_eq!(weighted, plain, max_relative = 1e-8, epsilon = 1e-12);
        }
    }
}

fn two(weight: f64) -> PairWeights {
    PairWeights::uniform(2, weight).unwrap()
}

fn with(distance: Distance) -> SharedInformationConfig {
    SharedInformationConfig {
        distance,
        ..Default::default()
    }
}

fn loss(distance: Distance) -> SharedInformation<f64> {
    SharedInformation::new(with(distance), two(1.0)).unwrap()
}

#[test]
fn the_plain_distance_is_lowered_by_shrinking_and_the_correlation_distance_is_not() {
    let features = [random(30, 4, 1), random(30, 4, 2)];
    let smaller = features.each_ref().map(|x| x * 0.1);
    let mut plain = loss(Distance::default());
    let before = total(&mut plain, &features);
    assert_relative_eq!(
        total(&mut plain, &smaller),
        before * 1e-4,
        max_relative = 1e-10
    );
    let mut free = loss(Distance::Correlation { epsilon: 1e-9 });
    let before = total(&mut free, &features);
    assert_relative_eq!(total(&mut free, &smaller), before, max_relative = 1e-5);
    // One modality alone may be scaled, column by column.
    let [a, b] = features;
    let columns = [&a * &array![[1.0, 10.0, 0.1, 3.0]], b];
    assert_relative_eq!(total(&mut free, &columns), before, max_relative = 1e-4);
}

fn total(loss: &mut SharedInformation<f64>, features: &[Array2<f64>; 2]) -> f64 {
    loss.value(&features.each_ref().map(|x| x.view()))
        .unwrap()
        .total
}

/// Gradient descent on one scale that both modalities are multiplied by, from 1. Returns the scale
/// at the end and the loss there over that at the start.
fn train_a_scale(distance: Distance, floor: Option<VarianceFloor>) -> (f64, f64) {
    let inputs = [random(30, 4, 1), random(30, 4, 2)];
    let mut loss = loss(distance);
    let start = total(&mut loss, &inputs);
    let mut scale = 1.0;
    let mut gradients = [Array2::zeros((30, 4)), Array2::zeros((30, 4))];
    for _ in 0..3000 {
        let features = inputs.each_ref().map(|x| x * scale);
        loss.value_and_gradient(&features.each_ref().map(|x| x.view()), &mut gradients)
            .unwrap();
        let mut slope = 0.0;
        for ((gradient, x), input) in gradients.iter_mut().zip(&features).zip(&inputs) {
            if let Some(floor) = floor {
                *gradient += &(floor.value_and_gradient(x.view()).unwrap().1 * 0.1);
            }
            slope += (&*gradient * input).sum();
        }
        scale -= slope;
    }
    let end = total(&mut loss, &inputs.each_ref().map(|x| x * scale));
    (scale, end / start)
}

#[test]
fn training_collapses_on_the_plain_distance_and_either_cure_keeps_the_scale() {
    let (scale, ratio) = train_a_scale(Distance::default(), None);
    assert!(scale < 0.4 && ratio < 0.02, "{scale}, {ratio}");
    let (scale, ratio) = train_a_scale(Distance::Correlation { epsilon: 1e-6 }, None);
    assert!(
        (scale - 1.0).abs() < 1e-3 && (ratio - 1.0).abs() < 1e-3,
        "{scale}, {ratio}"
    );
    let floor = VarianceFloor {
        floor: 0.8,
        ..Default::default()
    };
    let (scale, _) = train_a_scale(Distance::default(), Some(floor));
    assert!(scale > 0.8, "{scale}");
}

#[test]
fn orthogonal_parts_have_no_cross_covariance() {
    // Columns of a Hadamard matrix: centred and orthogonal.
    let h = array![
        [1.0, 1.0, 1.0],
        [-1.0, 1.0, -1.0],
        [1.0, -1.0, -1.0],
        [-1.0, -1.0, 1.0]
    ];
    let (a, b) = (h.slice(s![.., ..1]), h.slice(s![.., 1..]));
    let mut loss = loss(Distance::CrossCovariance {});
    assert_eq!(loss.value(&[a, b]).unwrap().total, 0.0);
    // Cov(a, a) = 4/3 in one of two columns.
    let overlapping = h.slice(s![.., ..2]);
    let value = loss.value(&[a, overlapping]).unwrap().total;
    assert_relative_eq!(value, (4.0_f64 / 3.0).powi(2) / 2.0, max_relative = 1e-14);
}

#[test]
fn redundancy_is_zero_for_copies_of_uncorrelated_features() {
    let h = array![[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]];
    let config = Distance::RedundancyReduction {
        off_diagonal: 1.0,
        epsilon: 1e-12,
    };
    let mut loss = loss(config);
    let scaled = &h * 3.0 + 5.0;
    assert!(loss.value(&[h.view(), scaled.view()]).unwrap().total < 1e-20);
    let swapped = h.slice(s![.., ..;-1]);
    // Both features miss their partner (1 each) and find another (1 each).
    assert_relative_eq!(
        loss.value(&[h.view(), swapped]).unwrap().total,
        2.0,
        max_relative = 1e-9
    );
}

#[test]
fn constant_columns_and_two_rows_are_defined_for_every_distance() {
    let mut a = random(2, 3, 1);
    a.column_mut(1).fill(4.0);
    let mut b = random(2, 3, 2);
    b.fill(-1.0);
    for distance in [
        Distance::default(),
        Distance::Correlation { epsilon: 1e-6 },
        #[cfg(feature = "eigh")]
        Distance::LogEuclidean { epsilon: 1e-6 },
        #[cfg(feature = "eigh")]
        Distance::BuresWasserstein { epsilon: 1e-6 },
        Distance::CrossCovariance {},
        Distance::RedundancyReduction {
            off_diagonal: 0.1,
            epsilon: 1e-6,
        },
    ] {
        let mut loss = loss(distance);
        let mut gradients = [Array2::zeros((2, 3)), Array2::zeros((2, 3))];
        let value = loss
            .value_and_gradient(&[a.view(), b.view()], &mut gradients)
            .unwrap()
            .total;
        assert!(value.is_finite(), "{distance:?}");
        assert!(
            gradients.iter().flatten().all(|entry| entry.is_finite()),
            "{distance:?}"
        );
    }
}

#[test]
fn a_running_covariance_steadies_the_distance_of_small_batches() {
    // Both modalities have the same distribution: the true distance is zero, and what a batch of
    // four rows shows is noise.
    let mut loss = loss(Distance::default());
    let mut running = [0, 1].map(|_| RunningCovariance::new(3, 0.95).unwrap());
    let (mut alone, mut averaged) = (0.0, 0.0);
    for step in 0..200 {
        let features = [random(4, 3, step), random(4, 3, step + 1000)];
        let batches = [0, 1].map(|side| Batch::from(features[side].view()).after(&running[side]));
        if step >= 100 {
            alone += loss
                .value(&features.each_ref().map(|x| x.view()))
                .unwrap()
                .total;
            averaged += loss.value(&batches).unwrap().total;
        }
        for (running, features) in running.iter_mut().zip(&features) {
            running.update(features.view(), 1).unwrap();
        }
    }
    assert!(averaged < 0.1 * alone, "{averaged} against {alone}");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let incompatible =
        |config: SharedInformationConfig| match SharedInformation::<f64>::new(config, two(1.0)) {
            Err(CovarianceError::Incompatible { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
    let shrinkage = Shrinkage::Fixed(0.5);
    let gram = Distance::Frobenius { route: Route::Gram };
    assert_eq!(
        incompatible(SharedInformationConfig {
            shrinkage,
            ..with(gram)
        }),
        "the Gram route"
    );
    let cross = with(Distance::CrossCovariance {});
    assert_eq!(
        incompatible(SharedInformationConfig { shrinkage, ..cross }),
        "a cross-covariance"
    );

    let x = random(4, 2, 1);
    let running = RunningCovariance::new(2, 0.5).unwrap();
    let blended = [Batch::from(x.view()).after(&running), x.view().into()];
    for distance in [gram, Distance::CrossCovariance {}] {
        let error = loss(distance).value(&blended).map(|value| value.total);
        assert!(
            matches!(error, Err(CovarianceError::Incompatible { .. })),
            "{error:?}"
        );
    }
    let estimated = SharedInformationConfig {
        shrinkage: Shrinkage::LedoitWolf,
        ..Default::default()
    };
    let mut estimated = SharedInformation::new(estimated, two(1.0)).unwrap();
    let weights = array![1.0, 2.0, 1.0, 1.0];
    let weighted = [
        Batch::from(x.view()).weighted(weights.view()),
        x.view().into(),
    ];
    for batches in [&weighted, &blended] {
        let error = estimated.value(batches).map(|value| value.total);
        assert!(
            matches!(error, Err(CovarianceError::Incompatible { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn bad_row_weights_and_unmatched_rows_are_named() {
    let x = random(3, 2, 1);
    let mut plain = loss(Distance::default());
    let mut value = |weights: Array1<f64>| {
        let batches = [
            x.view().into(),
            Batch::from(x.view()).weighted(weights.view()),
        ];
        plain.value(&batches).map(|value| value.total)
    };
    assert_eq!(
        value(array![1.0, 1.0]),
        Err(CovarianceError::RowWeights {
            modality: 1,
            expected: 3,
            found: 2
        })
    );
    assert_eq!(
        value(array![1.0, 1.0, -1.0]),
        Err(CovarianceError::RowWeight {
            modality: 1,
            row: 2,
            found: -1.0
        })
    );
    assert!(matches!(
        value(array![f64::NAN, 1.0, 1.0]),
        Err(CovarianceError::RowWeight {
            modality: 1,
            row: 0,
            ..
        })
    ));
    assert_eq!(
        value(array![0.0, 1.0, 0.0]),
        Err(CovarianceError::TooFewRows {
            modality: 1,
            rows: 1,
            ddof: 1
        })
    );
    let y = random(4, 2, 2);
    let views: [ArrayView2<f64>; 2] = [x.view(), y.view()];
    assert_eq!(
        loss(Distance::CrossCovariance {})
            .value(&views)
            .map(|value| value.total),
        Err(CovarianceError::Rows {
            first: 0,
            second: 1,
            rows: [3, 4]
        })
    );
    let running = RunningCovariance::new(3, 0.5).unwrap();
    let batches = [Batch::from(x.view()).after(&running), x.view().into()];
    assert_eq!(
        loss(Distance::default())
            .value(&batches)
            .map(|value| value.total),
        Err(CovarianceError::RunningWidth {
            modality: 0,
            expected: 2,
            found: 3
        })
    );
}

#[test]
fn settings_survive_json_and_are_checked() {
    let read = |json: &str| serde_json::from_str::<SharedInformationConfig>(json);
    for (json, distance) in [
        (
            r#"{"kind":"frobenius","route":"gram"}"#,
            Distance::Frobenius { route: Route::Gram },
        ),
        (
            r#"{"kind":"correlation","epsilon":0.5}"#,
            Distance::Correlation { epsilon: 0.5 },
        ),
        (
            r#"{"kind":"cross_covariance"}"#,
            Distance::CrossCovariance {},
        ),
        (
            r#"{"kind":"redundancy_reduction","off_diagonal":0.5,"epsilon":0.1}"#,
            Distance::RedundancyReduction {
                off_diagonal: 0.5,
                epsilon: 0.1,
            },
        ),
    ] {
        assert_eq!(serde_json::to_string(&distance).unwrap(), json);
        let config = read(&format!(r#"{{"distance":{json}}}"#)).unwrap();
        assert_eq!(config, with(distance));
        let typo = json.replace("kind", "kinds");
        assert!(
            read(&format!(r#"{{"distance":{typo}}}"#)).is_err(),
            "{typo}"
        );
        let unknown = json.replace('}', r#","extra":1}"#);
        assert!(
            read(&format!(r#"{{"distance":{unknown}}}"#)).is_err(),
            "{unknown}"
        );
    }
    assert_eq!(
        read(r#"{"distance":{"kind":"frobenius"},"shrinkage":{"fixed":0.25}}"#).unwrap(),
        SharedInformationConfig {
            shrinkage: Shrinkage::Fixed(0.25),
            ..Default::default()
        }
    );
    assert_eq!(
        read(r#"{"shrinkage":"ledoit_wolf"}"#).unwrap().shrinkage,
        Shrinkage::LedoitWolf
    );
    for bad in [
        with(Distance::Correlation { epsilon: 0.0 }),
        #[cfg(feature = "eigh")]
        with(Distance::LogEuclidean { epsilon: -1.0 }),
        #[cfg(feature = "eigh")]
        with(Distance::BuresWasserstein {
            epsilon: f64::INFINITY,
        }),
        with(Distance::RedundancyReduction {
            off_diagonal: -1.0,
            epsilon: 1.0,
        }),
        with(Distance::RedundancyReduction {
            off_diagonal: 1.0,
            epsilon: f64::NAN,
        }),
        SharedInformationConfig {
            shrinkage: Shrinkage::Fixed(1.5),
            ..Default::default()
        },
    ] {
        assert!(
            matches!(bad.validate(), Err(CovarianceError::Config { .. })),
            "{bad:?}"
        );
    }
}
