//! The distances that go through eigenvalues: closed forms, invariances, and gradients where
//! eigenvalues are equal or zero.

#![cfg(feature = "eigh")]
#![allow(clippy::unwrap_used)]

use approx::assert_relative_eq;
use modalign_covariance::{
    Distance, PairWeights, SharedInformation, SharedInformationConfig, Shrinkage,
};
use modalign_gradcheck::check_gradient;
use ndarray::{Array, Array1, Array2, array, s};

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    use rand::{RngExt, SeedableRng};
    let mut rng = modalign_core::ChaCha8Rng::seed_from_u64(seed);
    Array::from_shape_simple_fn((rows, columns), || rng.random_range(-1.5..1.5))
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

fn total(loss: &mut SharedInformation<f64>, features: &[Array2<f64>; 2]) -> f64 {
    loss.value(&features.each_ref().map(|x| x.view()))
        .unwrap()
        .total
}

/// Both distances that go through eigenvalues.
fn spectral(epsilon: f64) -> [Distance; 2] {
    [
        Distance::LogEuclidean { epsilon },
        Distance::BuresWasserstein { epsilon },
    ]
}

/// Four rows with covariance `diag(scales²)`, exactly but for the rounding of the scales.
fn uncorrelated(scales: [f64; 2]) -> Array2<f64> {
    let h = array![[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]];
    h * (Array1::from(scales.to_vec()) * 0.75_f64.sqrt())
}

#[test]
fn covariances_that_commute_are_compared_eigenvalue_by_eigenvalue() {
    let (a, b) = (uncorrelated([1.0, 2.0]), uncorrelated([3.0, 0.5]));
    let epsilon = 0.25;
    let pairs = [(1.25, 9.25), (4.25, 0.5)].map(|(a, b): (f64, f64)| (a, b));
    let logarithms: f64 = pairs.iter().map(|(a, b)| (a / b).ln().powi(2)).sum();
    let roots: f64 = pairs
        .iter()
        .map(|(a, b)| (a.sqrt() - b.sqrt()).powi(2))
        .sum();
    for (distance, expected) in spectral(epsilon)
        .into_iter()
        .zip([logarithms / 16.0, roots / 2.0])
    {
        let found = loss(distance).value(&[a.view(), b.view()]).unwrap().total;
        assert_relative_eq!(found, expected, max_relative = 1e-12);
    }
}

fn check(distance: Distance, a: &Array2<f64>, b: &Array2<f64>) {
    let mut loss = loss(distance);
    let mut gradients = [Array2::zeros(a.raw_dim()), Array2::zeros(b.raw_dim())];
    loss.value_and_gradient(&[a.view(), b.view()], &mut gradients)
        .unwrap();
    let name = format!("{distance:?}");
    check_gradient(&name, a, &gradients[0], |a| {
        loss.value(&[a.view(), b.view()]).unwrap().total
    })
    .unwrap();
    check_gradient(&name, b, &gradients[1], |b| {
        loss.value(&[a.view(), b.view()]).unwrap().total
    })
    .unwrap();
}

#[test]
fn gradients_hold_at_equal_zero_and_nearly_equal_eigenvalues() {
    let other = random(5, 2, 1);
    for distance in spectral(0.1) {
        // Twice the same eigenvalue, and all but.
        check(distance, &uncorrelated([1.0, 1.0]), &other);
        check(
            distance,
            &uncorrelated([1.0, 1.0]),
            &uncorrelated([2.0, 2.0]),
        );
        check(distance, &uncorrelated([1.0, 1.0 + 1e-9]), &other);
        // Two rows: one eigenvalue above zero, the others zero.
        check(distance, &random(2, 4, 2), &random(3, 4, 3));
        // One column; constant columns; nothing but constants.
        check(distance, &random(4, 1, 4), &random(3, 1, 5));
        let mut constant = random(5, 3, 6);
        constant.column_mut(1).fill(2.0);
        check(distance, &constant, &random(5, 3, 7));
        check(distance, &Array2::ones((3, 3)), &random(5, 3, 8));
    }
}

#[test]
fn rotations_of_both_modalities_change_no_distance_that_looks_at_all_entries() {
    let [a, b] = [random(9, 3, 1), random(7, 3, 2)];
    let (c, s) = (0.6, 0.8);
    let rotation = array![[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]].dot(&array![
        [1.0, 0.0, 0.0],
        [0.0, c, s],
        [0.0, -s, c]
    ]);
    let rotated = [a.dot(&rotation), b.dot(&rotation)];
    let plain = [a, b];
    for distance in [Distance::default()].into_iter().chain(spectral(0.05)) {
        let mut loss = loss(distance);
        let expected = total(&mut loss, &plain);
        assert_relative_eq!(total(&mut loss, &rotated), expected, max_relative = 1e-11);
    }
}

#[test]
fn scales_enter_as_stated() {
    let features = [random(9, 3, 1), random(7, 3, 2)];
    let larger = features.each_ref().map(|x| x * 2.0);
    let [logarithm, _] = spectral(1e-12);
    let expected = total(&mut loss(logarithm), &features);
    assert_relative_eq!(
        total(&mut loss(logarithm), &larger),
        expected,
        max_relative = 1e-9
    );
    let [_, bures] = spectral(0.1);
    let [_, bures_larger] = spectral(0.4);
    let expected = 4.0 * total(&mut loss(bures), &features);
    assert_relative_eq!(
        total(&mut loss(bures_larger), &larger),
        expected,
        max_relative = 1e-11
    );
}

#[test]
fn equal_covariances_have_no_spectral_distance_and_no_gradient() {
    let a = random(8, 3, 1);
    let b = a.slice(s![..;-1, ..]).to_owned();
    for distance in spectral(1e-3) {
        let mut gradients = [Array2::zeros((8, 3)), Array2::zeros((8, 3))];
        let mut loss = loss(distance);
        let value = loss
            .value_and_gradient(&[a.view(), b.view()], &mut gradients)
            .unwrap()
            .total;
        assert!((0.0..1e-14).contains(&value), "{distance:?}: {value:e}");
        assert!(
            gradients.iter().flatten().all(|entry| entry.abs() < 1e-11),
            "{distance:?}"
        );
    }
}

#[test]
fn single_precision_features_keep_their_digits_through_the_eigenvalues() {
    // Fewer rows than columns, shrunk: eigenvalues from 0.02 to some tens.
    let config = |distance| SharedInformationConfig {
        shrinkage: Shrinkage::Fixed(0.1),
        ..with(distance)
    };
    let features = [random(10, 20, 1) * 3.0, random(12, 20, 2)];
    let narrow = features.each_ref().map(|x| x.mapv(|x| x as f32));
    for distance in spectral(1e-6) {
        let mut wide = SharedInformation::new(config(distance), two(1.0)).unwrap();
        let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
        let views = features.each_ref().map(|x| x.view());
        let expected = wide
            .value_and_gradient(&views, &mut gradients)
            .unwrap()
            .total;
        let mut single = SharedInformation::new(config(distance), two(1.0)).unwrap();
        let mut found = narrow.each_ref().map(|x| Array2::zeros(x.raw_dim()));
        let views = narrow.each_ref().map(|x| x.view());
        let value = single.value_and_gradient(&views, &mut found).unwrap().total;
        assert_relative_eq!(f64::from(value), expected, max_relative = 1e-5);
        for (found, expected) in found.iter().zip(&gradients) {
            let largest = expected
                .iter()
                .fold(0.0_f64, |largest, x| largest.max(x.abs()));
            assert_relative_eq!(found.mapv(f64::from), expected, epsilon = 1e-4 * largest);
        }
    }
}
