//! The shared-information loss: value, gradient, routes, rounding, separation and refusals.

#![allow(clippy::unwrap_used)]

use approx::assert_relative_eq;
use modalign_core::Scalar;
use modalign_covariance::{
    CovarianceError, Distance, MAX_SIDE, PairWeights, Route, Separation, SharedInformation,
    SharedInformationConfig, Shrinkage, coral, covariance,
};
use modalign_gradcheck::check_gradient;
use ndarray::{Array, Array2, ArrayView2, array, s};
use proptest::prelude::*;

fn by(route: Route) -> SharedInformationConfig {
    SharedInformationConfig {
        distance: Distance::Frobenius { route },
        ..Default::default()
    }
}

const ROUTES: [Route; 2] = [Route::Covariance, Route::Gram];

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    use rand::{RngExt, SeedableRng};
    let mut rng = modalign_core::ChaCha8Rng::seed_from_u64(seed);
    Array::from_shape_simple_fn((rows, columns), || rng.random_range(-1.5..1.5))
}

fn views<A>(features: &[Array2<A>]) -> Vec<ArrayView2<'_, A>> {
    features.iter().map(|x| x.view()).collect()
}

fn zeros<A: Scalar>(features: &[Array2<A>]) -> Vec<Array2<A>> {
    features
        .iter()
        .map(|x| Array2::zeros(x.raw_dim()))
        .collect()
}

/// Total and gradients.
fn evaluate<A: Scalar>(
    config: SharedInformationConfig,
    weights: &PairWeights,
    features: &[Array2<A>],
) -> (A, Vec<Array2<A>>) {
    let mut loss = SharedInformation::new(config, weights.clone()).unwrap();
    let mut gradients = zeros(features);
    let total = loss
        .value_and_gradient(&views(features), &mut gradients)
        .unwrap()
        .total;
    (total, gradients)
}

/// The loss as its formula says, entry by entry.
fn naive(config: SharedInformationConfig, weights: &PairWeights, features: &[Array2<f64>]) -> f64 {
    let covariance = |x: &Array2<f64>, k: usize, l: usize| {
        let rows = x.nrows() as f64;
        let mean = |k: usize| x.column(k).iter().sum::<f64>() / rows;
        let products = x
            .rows()
            .into_iter()
            .map(|row| (row[k] - mean(k)) * (row[l] - mean(l)));
        products.sum::<f64>() / (rows - config.ddof as f64)
    };
    weights
        .pairs()
        .map(|(i, j, weight)| {
            let d = features[i].ncols();
            let mut distance = 0.0;
            for k in 0..d {
                for l in 0..d {
                    let difference =
                        covariance(&features[i], k, l) - covariance(&features[j], k, l);
                    distance += difference * difference / (4 * d * d) as f64;
                }
            }
            let bounded = match config.separation {
                _ if weight > 0.0 => distance,
                Separation::Hinge { margin } => distance.min(margin),
                Separation::Saturating { scale } => scale * distance / (scale + distance),
            };
            weight * bounded
        })
        .sum()
}

fn separations() -> impl Strategy<Value = Separation> {
    prop_oneof![
        (0.005..0.5_f64).prop_map(|margin| Separation::Hinge { margin }),
        (0.005..0.5_f64).prop_map(|scale| Separation::Saturating { scale }),
    ]
}

/// Settings, weights (negative and zero among them) and features of two to four modalities, of one
/// width but with rows of their own.
fn problems() -> impl Strategy<Value = (SharedInformationConfig, PairWeights, Vec<Array2<f64>>)> {
    (
        2..=4_usize,
        1..7_usize,
        0..2_usize,
        any::<bool>(),
        separations(),
    )
        .prop_flat_map(|(modalities, width, ddof, gram, separation)| {
            let weight = prop_oneof![Just(0.0), 0.1..2.0_f64, -2.0..-0.1_f64];
            let weights = prop::collection::vec(weight, modalities * (modalities - 1) / 2);
            let rows = prop::collection::vec(2..7_usize, modalities);
            (weights, rows, any::<u64>()).prop_map(move |(values, rows, seed)| {
                let indices = (0..modalities).flat_map(|j| (0..j).map(move |i| (i, j)));
                let pairs: Vec<_> = indices
                    .zip(&values)
                    .map(|((i, j), &weight)| (i, j, weight))
                    .collect();
                let features = rows
                    .iter()
                    .zip(seed % 1000..)
                    .map(|(&rows, seed)| random(rows, width, seed))
                    .collect();
                let route = if gram { Route::Gram } else { Route::Covariance };
                let config = SharedInformationConfig {
                    ddof,
                    separation,
                    ..by(route)
                };
                (
                    config,
                    PairWeights::from_pairs(modalities, &pairs).unwrap(),
                    features,
                )
            })
        })
}

fn near_a_kink(
    config: SharedInformationConfig,
    weights: &PairWeights,
    features: &[Array2<f64>],
) -> bool {
    let Separation::Hinge { margin } = config.separation else {
        return false;
    };
    let mut loss = SharedInformation::new(config, weights.clone()).unwrap();
    let value = loss.value(&views(features)).unwrap();
    value
        .pairs
        .iter()
        .any(|pair| (pair.distance - margin).abs() < 1e-3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_value_is_what_the_loops_say((config, weights, features) in problems()) {
        let expected = naive(config, &weights, &features);
        let (found, _) = evaluate(config, &weights, &features);
        assert_relative_eq!(found, expected, max_relative = 1e-11, epsilon = 1e-14);
    }

    #[test]
    fn the_gradient_is_that_of_central_differences((config, weights, features) in problems()) {
        prop_assume!(!near_a_kink(config, &weights, &features));
        let (_, gradients) = evaluate(config, &weights, &features);
        let mut loss = SharedInformation::new(config, weights).unwrap();
        for (modality, gradient) in gradients.iter().enumerate() {
            let mut features = features.clone();
            let x = features[modality].clone();
            let name = format!("modality {modality}");
            check_gradient(&name, &x, gradient, |x| {
                features[modality].assign(x);
                loss.value(&views(&features)).unwrap().total
            })
            .unwrap();
        }
    }

    #[test]
    fn a_call_does_not_depend_on_the_calls_before_it((config, weights, features) in problems()) {
        let (total, gradients) = evaluate(config, &weights, &features);
        let mut loss = SharedInformation::new(config, weights).unwrap();
        let larger: Vec<_> = features.iter().map(|x| random(x.nrows() + 3, x.ncols() + 2, 7)).collect();
        loss.value_and_gradient(&views(&larger), &mut zeros(&larger)).unwrap();
        let mut again: Vec<_> = features.iter().map(|x| x.mapv(|_| f64::NAN)).collect();
        let value = loss.value_and_gradient(&views(&features), &mut again).unwrap();
        prop_assert_eq!(value.total, total);
        prop_assert_eq!(again, gradients);
        prop_assert_eq!(loss.value(&views(&features)).unwrap().total, total);
    }

    #[test]
    fn the_invariances_hold(
        (config, weights, features) in problems(),
        shift in -10.0..10.0_f64,
        factor in 0.3..3.0_f64,
    ) {
        let (total, gradients) = evaluate(config, &weights, &features);
        let shifted: Vec<_> = features.iter().map(|x| x.mapv(|x| x + shift)).collect();
        let reversed: Vec<_> = features.iter().map(|x| x.slice(s![..;-1, ..]).to_owned()).collect();
        for other in [&shifted, &reversed] {
            let (found, _) = evaluate(config, &weights, other);
            assert_relative_eq!(found, total, max_relative = 1e-10, epsilon = 1e-13);
        }
        for gradient in &gradients {
            for column in gradient.columns() {
                prop_assert!(column.sum().abs() < 1e-13, "a shift would change the loss");
            }
        }
        let scaled: Vec<_> = features.iter().map(|x| x.mapv(|x| x * factor)).collect();
        let scale = factor.powi(4);
        let separation = match config.separation {
            Separation::Hinge { margin } => Separation::Hinge { margin: margin * scale },
            Separation::Saturating { scale: bound } => Separation::Saturating { scale: bound * scale },
        };
        let (found, _) = evaluate(SharedInformationConfig { separation, ..config }, &weights, &scaled);
        assert_relative_eq!(found, total * scale, max_relative = 1e-10, epsilon = 1e-13);
    }

    #[test]
    fn both_routes_agree_to_rounding((config, weights, features) in problems()) {
        prop_assume!(!near_a_kink(config, &weights, &features));
        let [covariance, gram] =
            ROUTES.map(|route| evaluate(SharedInformationConfig { distance: Distance::Frobenius { route }, ..config }, &weights, &features));
        assert_relative_eq!(gram.0, covariance.0, max_relative = 1e-12, epsilon = 1e-15);
        for (gram, covariance) in gram.1.iter().zip(&covariance.1) {
            assert_relative_eq!(gram, covariance, max_relative = 1e-10, epsilon = 1e-15);
        }
    }

    /// With ε the unit of rounding and `ρ = ε (tr C_a + tr C_b) / ‖C_a − C_b‖`, a relative error of
    /// `2 c ρ + (c ρ)²` in the value and of `c ρ` in the gradient (against its size before
    /// cancellation) is what inexact covariances cost; see `docs/derivations/shared_information.md`.
    /// The Gram form may lose another factor of 64, and never more: no `1/ρ²` appears.
    #[test]
    fn single_precision_holds_its_bound_however_close_the_covariances(
        (n, d) in (2..40_usize, 1..60_usize),
        exponent in -7.0..0.0_f64,
        seed in 0..1000_u64,
        reorder: bool,
    ) {
        let a = random(n, d, seed).mapv(|x| x as f32);
        let noise = random(n, d, seed + 1000).mapv(|x| x as f32);
        let mut b = &a + &(noise * 10_f32.powf(exponent as f32));
        if reorder {
            b.invert_axis(ndarray::Axis(0));
        }
        let wide = [a.mapv(f64::from), b.mapv(f64::from)];
        let weights = PairWeights::uniform(2, 1.0).unwrap();
        let exact = by(Route::Covariance);
        let (expected, expected_gradients) = evaluate(exact, &weights, &wide);
        let norm = (4.0 * expected).sqrt() * d as f64;
        prop_assume!(norm > 0.0);
        let trace = |x: &Array2<f64>| covariance(x.view(), 1).unwrap().diag().sum();
        let traces = trace(&wide[0]) + trace(&wide[1]);
        let rho = ERROR_CONSTANT * f64::from(f32::EPSILON) * traces / norm;
        for route in ROUTES {
            let config = by(route);
            let (value, gradients) = evaluate(config, &weights, &[a.clone(), b.clone()]);
            let error = (f64::from(value) - expected).abs() / expected;
            let mut bound = 2.0 * rho + rho * rho;
            if route == Route::Gram {
                bound = bound.max(64.0 * ERROR_CONSTANT * f64::from(f32::EPSILON));
            }
            prop_assert!(error <= bound, "{route:?}: value off by {error:e}, bound {bound:e}");
            for (modality, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
                let difference = found.mapv(f64::from) - expected;
                let error = difference.mapv(|x| x * x).sum().sqrt();
                let size = (trace(&wide[modality]) / (n - 1) as f64).sqrt() * traces / (d * d) as f64;
                let bound = ERROR_CONSTANT * f64::from(f32::EPSILON) * size;
                prop_assert!(error <= bound, "{route:?}: gradient off by {error:e}, bound {bound:e}");
            }
        }
    }
}

/// The constant of the rounding bounds. The worst case grows with the number of terms of a sum;
/// blocked sums of terms with independent rounding errors stay far below it.
const ERROR_CONSTANT: f64 = 4.0;

#[test]
fn identical_modalities_have_no_distance_by_either_route() {
    let x = random(6, 9, 1);
    for route in ROUTES {
        let config = by(route);
        let weights = PairWeights::uniform(2, 1.0).unwrap();
        let (value, gradients) = evaluate(config, &weights, &[x.clone(), x.clone()]);
        assert!((0.0..1e-28).contains(&value), "{route:?}: {value:e}");
        assert!(gradients.iter().flatten().all(|entry| entry.abs() < 1e-15));
    }
}

#[test]
fn the_panels_of_a_wide_close_pair_cover_every_column_once() {
    let a = random(5, 150, 3);
    let b = &a + &(random(5, 150, 4) * 1e-3);
    let weights = PairWeights::uniform(2, 1.0).unwrap();
    let [covariance, gram] = ROUTES.map(|route| {
        let config = by(route);
        evaluate(config, &weights, &[a.clone(), b.clone()]).0
    });
    assert_relative_eq!(gram, covariance, max_relative = 1e-11);
    assert!(covariance > 0.0);
}

#[test]
fn single_precision_gradients_are_those_of_double_precision() {
    let weights = PairWeights::from_pairs(3, &[(0, 1, 1.0), (0, 2, -0.5), (1, 2, 0.2)]).unwrap();
    let features = [random(20, 12, 1), random(17, 12, 2), random(20, 12, 3)];
    for route in [Route::Auto, Route::Covariance, Route::Gram] {
        let config = by(route);
        let (wide, expected) = evaluate(config, &weights, &features);
        let narrow: Vec<_> = features.iter().map(|x| x.mapv(|x| x as f32)).collect();
        let (value, gradients) = evaluate(config, &weights, &narrow);
        assert_relative_eq!(f64::from(value), wide, max_relative = 1e-5);
        for (found, expected) in gradients.iter().zip(&expected) {
            assert_relative_eq!(
                found.mapv(f64::from),
                expected,
                epsilon = 1e-6,
                max_relative = 1e-4
            );
        }
    }
}

#[test]
fn groups_of_different_widths_and_unweighted_modalities_live_side_by_side() {
    let weights = PairWeights::from_pairs(5, &[(0, 3, 1.0), (1, 4, 2.0)]).unwrap();
    let unread = Array2::from_elem((1, 2), f64::NAN);
    let features = [
        random(6, 3, 1),
        random(5, 8, 2),
        unread,
        random(4, 3, 3),
        random(5, 8, 4),
    ];
    let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights).unwrap();
    let mut gradients = zeros(&features);
    gradients[2].fill(7.0);
    let value = loss
        .value_and_gradient(&views(&features), &mut gradients)
        .unwrap();
    let (first, ..) = coral(features[0].view(), features[3].view()).unwrap();
    let (second, ..) = coral(features[1].view(), features[4].view()).unwrap();
    assert_relative_eq!(value.total, first + 2.0 * second, max_relative = 1e-14);
    assert_eq!((value.pairs[1].first, value.pairs[1].second), (1, 4));
    assert_relative_eq!(value.pairs[1].distance, second, max_relative = 1e-14);
    assert_eq!(gradients[2], array![[0.0, 0.0]]);
}

#[test]
fn no_pairs_make_no_loss() {
    let weights = PairWeights::uniform(2, 0.0).unwrap();
    let features = [random(3, 2, 1), random(4, 5, 2)];
    let (total, gradients) = evaluate(SharedInformationConfig::default(), &weights, &features);
    assert_eq!(total, 0.0);
    assert!(gradients.iter().flatten().all(|&entry| entry == 0.0));
}

#[test]
fn beyond_the_margin_and_at_it_the_gradient_is_zero() {
    let (a, b) = (array![[0.0], [2.0]], array![[0.0], [4.0]]);
    // The variances are 2 and 8, so the distance is 36 / 4.
    let weights = PairWeights::uniform(2, -1.0).unwrap();
    for (margin, total, slope) in [(10.0, -9.0, -1.0), (9.0, -9.0, 0.0), (8.0, -8.0, 0.0)] {
        let separation = Separation::Hinge { margin };
        let config = SharedInformationConfig {
            separation,
            ..Default::default()
        };
        let (value, gradients) = evaluate(config, &weights, &[a.clone(), b.clone()]);
        assert_eq!(value, total);
        // dl/da = (a − mean) · (2 − 8) / (1² · 1)
        assert_eq!(gradients[0], array![[6.0], [-6.0]] * slope);
    }
}

/// Plain gradient descent on the features themselves.
fn descend(separation: Separation, steps: usize) -> Result<(f64, f64), CovarianceError> {
    let config = SharedInformationConfig {
        separation,
        ..Default::default()
    };
    let mut loss = SharedInformation::new(config, PairWeights::uniform(2, -1.0)?)?;
    let mut features = [random(16, 4, 1), random(16, 4, 2)];
    let mut gradients = zeros(&features);
    for _ in 0..steps {
        loss.value_and_gradient(&views(&features), &mut gradients)?;
        for (x, gradient) in features.iter_mut().zip(&gradients) {
            x.scaled_add(-20.0, gradient);
        }
    }
    let distance = loss.value(&views(&features))?.pairs[0].distance;
    let largest = features
        .iter()
        .flatten()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    Ok((distance, largest))
}

#[test]
fn separation_ends_where_an_unbounded_distance_diverges() {
    let (start, _) = descend(Separation::default(), 0).unwrap();
    assert!(start < 0.1);
    let (distance, largest) = descend(Separation::Hinge { margin: 0.25 }, 5000).unwrap();
    assert!(
        (0.25..1.0).contains(&distance) && largest < 10.0,
        "{distance}, {largest}"
    );
    let (distance, largest) = descend(Separation::Saturating { scale: 0.25 }, 5000).unwrap();
    assert!(
        (0.25..1e6).contains(&distance) && largest < 100.0,
        "{distance}, {largest}"
    );
    // A margin out of reach is no bound at all.
    let unbounded = descend(Separation::Hinge { margin: 1e300 }, 5000);
    assert!(
        matches!(
            unbounded,
            Err(CovarianceError::Overflow { .. } | CovarianceError::NonFinite { .. })
        ),
        "{unbounded:?}"
    );
}

#[test]
fn auto_takes_the_cheaper_route() {
    // Forced routes on a pair whose Gram matrix, or covariance, would be beyond the limit.
    let weights = PairWeights::uniform(2, 1.0).unwrap();
    let wide = Array2::<f32>::from_shape_fn((2, MAX_SIDE + 1), |(i, j)| ((i + j) % 3) as f32);
    let refused = CovarianceError::TooLarge {
        side: MAX_SIDE + 1,
        limit: MAX_SIDE,
    };
    let tall = Array2::<f32>::from_shape_fn((MAX_SIDE, 2), |(i, j)| ((i * j) % 5) as f32);
    let value = |route, x: &Array2<f32>| {
        let config = by(route);
        let mut loss = SharedInformation::new(config, weights.clone()).unwrap();
        let other = x.mapv(|x| x * 0.5);
        loss.value(&[x.view(), other.view()])
            .map(|value| value.total)
    };
    assert_eq!(value(Route::Covariance, &wide), Err(refused));
    assert_eq!(value(Route::Auto, &wide), value(Route::Gram, &wide));
    assert!(value(Route::Auto, &wide).is_ok());
    let refused = CovarianceError::TooLarge {
        side: 2 * MAX_SIDE,
        limit: MAX_SIDE,
    };
    assert_eq!(value(Route::Gram, &tall), Err(refused));
    assert_eq!(value(Route::Auto, &tall), value(Route::Covariance, &tall));
    assert!(value(Route::Auto, &tall).is_ok());
}

#[test]
fn bad_input_is_named() {
    let weights = PairWeights::uniform(2, 1.0).unwrap();
    let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights).unwrap();
    let (a, b) = (random(4, 3, 1), random(4, 3, 2));
    let count = |argument, found| CovarianceError::Modalities {
        argument,
        expected: 2,
        found,
    };
    assert_eq!(loss.value(&[a.view()]), Err(count("batches", 1)));
    let views = [a.view(), b.view()];
    assert_eq!(
        loss.value_and_gradient(&views, &mut []),
        Err(count("gradients", 0))
    );
    let mut gradients = [Array2::zeros((4, 3)), Array2::zeros((3, 4))];
    assert_eq!(
        loss.value_and_gradient(&views, &mut gradients),
        Err(CovarianceError::GradientShape {
            modality: 1,
            expected: [4, 3],
            found: [3, 4]
        })
    );
    assert_eq!(
        loss.value(&[a.view(), b.slice(s![.., ..2])]),
        Err(CovarianceError::Width {
            first: 0,
            second: 1,
            widths: [3, 2]
        })
    );
    assert_eq!(
        loss.value(&[a.view(), b.slice(s![..1, ..])]),
        Err(CovarianceError::TooFewRows {
            modality: 1,
            rows: 1,
            ddof: 1
        })
    );
    assert_eq!(
        loss.value(&[a.slice(s![.., ..0]), b.slice(s![.., ..0])]),
        Err(CovarianceError::NoColumns { modality: 0 })
    );
    let mut bad = b.clone();
    bad[[3, 2]] = f64::NEG_INFINITY;
    assert_eq!(
        loss.value(&[a.view(), bad.view()]),
        Err(CovarianceError::NonFinite {
            modality: 1,
            row: 3,
            column: 2
        })
    );
    for route in ROUTES {
        let config = by(route);
        let weights = PairWeights::uniform(2, 1.0).unwrap();
        let mut loss = SharedInformation::new(config, weights).unwrap();
        let huge = a.mapv(|x| x * 1e120);
        assert_eq!(
            loss.value(&[huge.view(), b.view()]),
            Err(CovarianceError::Overflow {
                first: 0,
                second: 1
            })
        );
    }
}

#[test]
fn settings_survive_json_and_mistakes_in_them_do_not_pass() {
    let config = SharedInformationConfig {
        ddof: 0,
        separation: Separation::Saturating { scale: 2.0 },
        distance: Distance::Frobenius { route: Route::Gram },
        shrinkage: Shrinkage::None,
    };
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(
        json,
        concat!(
            r#"{"ddof":0,"distance":{"kind":"frobenius","route":"gram"},"shrinkage":"none","#,
            r#""separation":{"kind":"saturating","scale":2.0}}"#
        )
    );
    let read = |json: &str| serde_json::from_str::<SharedInformationConfig>(json);
    assert_eq!(read(&json).unwrap(), config);
    assert_eq!(read("{}").unwrap(), SharedInformationConfig::default());
    for typo in [
        r#"{"dof": 1}"#,
        r#"{"distance": {"kind": "frobenius", "route": "grams"}}"#,
        r#"{"separation": {"kind": "hinge", "scale": 1.0}}"#,
        r#"{"separation": {"kind": "hinge", "margin": 1.0, "scale": 1.0}}"#,
    ] {
        assert!(read(typo).is_err(), "{typo}");
    }
    let out_of_range = SharedInformationConfig {
        separation: Separation::Hinge { margin: -1.0 },
        ..Default::default()
    };
    let weights = PairWeights::uniform(2, 1.0).unwrap();
    assert!(matches!(
        SharedInformation::<f64>::new(out_of_range, weights),
        Err(CovarianceError::Config {
            field: "separation.margin",
            ..
        })
    ));
}

/// Modalities side by side, and one after the other with products that share the threads.
#[test]
fn threads_do_not_change_a_bit() {
    for (modalities, rows, width) in [(2, 150, 130), (2, 300, 190), (3, 150, 130), (3, 520, 180)] {
        let features: Vec<_> = (0..modalities)
            .map(|modality| random(rows, width, modality))
            .collect();
        let weights = PairWeights::uniform(modalities as usize, 1.0).unwrap();
        for distance in [
            Distance::Frobenius {
                route: Route::Covariance,
            },
            Distance::Correlation { epsilon: 1e-3 },
        ] {
            let config = SharedInformationConfig {
                distance,
                shrinkage: Shrinkage::LedoitWolf,
                ..Default::default()
            };
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build()
                    .unwrap()
                    .install(|| evaluate(config, &weights, &features))
            };
            let alone = run(1);
            assert!(alone.0 > 0.0);
            for threads in [2, 3] {
                assert_eq!(run(threads), alone, "{modalities} {distance:?} {threads}");
            }
        }
    }
}
