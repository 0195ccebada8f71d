//! A right gradient passes and a wrong one fails, for functions with a matrix input, each mistake
//! at shapes and values drawn at random.

use modalign_gradcheck::{
    Agreement, GradientCheck, GradientError, check_gradient, contract, numeric_gradient,
};
use ndarray::{Array, Array1, Array2, Array3, ArrayD, IxDyn, array};
use proptest::prelude::*;

fn matrix(rows: usize, columns: usize) -> impl Strategy<Value = Array2<f64>> {
    prop::collection::vec(-2.0..2.0_f64, rows * columns).prop_map(move |values| {
        Array2::from_shape_vec((rows, columns), values).expect("as many values")
    })
}

/// Inputs of `sum(cotangent · sigmoid(x W))`, with shapes from 1 on.
fn problem() -> impl Strategy<Value = (Array2<f64>, Array2<f64>, Array2<f64>)> {
    (1..5_usize, 1..5_usize, 1..5_usize).prop_flat_map(|(rows, inner, columns)| {
        (
            matrix(rows, inner),
            matrix(inner, columns),
            matrix(rows, columns),
        )
    })
}

fn sigmoid(x: &Array2<f64>, weight: &Array2<f64>) -> Array2<f64> {
    x.dot(weight).mapv(|z| 1.0 / (1.0 + (-z).exp()))
}

fn gradient(x: &Array2<f64>, weight: &Array2<f64>, cotangent: &Array2<f64>) -> Array2<f64> {
    let y = sigmoid(x, weight);
    (cotangent * &y * (1.0 - &y)).dot(&weight.t())
}

fn largest(values: &Array2<f64>) -> f64 {
    values.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_right_gradient_passes((x, weight, cotangent) in problem()) {
        let agreement = check_gradient("dx", &x, &gradient(&x, &weight, &cotangent), |x| {
            contract(&sigmoid(x, &weight), &cotangent)
        });
        let agreement = agreement.unwrap();
        prop_assert_eq!(agreement.entries, x.len());
        prop_assert!(agreement.largest_ratio < 0.1, "{agreement:?}");
    }

    #[test]
    fn one_percent_off_fails((x, weight, cotangent) in problem()) {
        let right = gradient(&x, &weight, &cotangent);
        prop_assume!(largest(&right) > 1e-3);
        let result = check_gradient("dx", &x, &(1.01 * right), |x| {
            contract(&sigmoid(x, &weight), &cotangent)
        });
        prop_assert!(matches!(result, Err(GradientError::Mismatch { .. })), "{result:?}");
    }

    #[test]
    fn transposed_fails((x, weight) in (2..5_usize).prop_flat_map(|n| (matrix(n, n), matrix(n, n)))) {
        let right = gradient(&x, &weight, &Array2::ones(x.raw_dim()));
        let transposed = right.t().to_owned();
        prop_assume!(largest(&(&right - &transposed)) > 1e-3);
        let result = check_gradient("dx", &x, &transposed, |x| sigmoid(x, &weight).sum());
        prop_assert!(matches!(result, Err(GradientError::Mismatch { .. })), "{result:?}");
    }

    /// `f = (Σ x²)(Σ x)` needs the product rule; the second term is left out.
    #[test]
    fn a_missing_term_fails(x in (2..5_usize, 1..5_usize).prop_flat_map(|(n, d)| matrix(n, d))) {
        let f = |x: &Array2<f64>| x.mapv(|x| x * x).sum() * x.sum();
        let square = x.mapv(|x| x * x).sum();
        let right = 2.0 * x.sum() * &x + square;
        let without = 2.0 * x.sum() * &x;
        prop_assume!(square > 1e-3);
        prop_assert!(check_gradient("dx", &x, &right, f).is_ok());
        let result = check_gradient("dx", &x, &without, f);
        prop_assert!(matches!(result, Err(GradientError::Mismatch { .. })), "{result:?}");
    }
}

#[test]
fn a_single_wrong_entry_is_named() {
    let x = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (i + 2 * j) as f64 - 0.3 * k as f64);
    let mut analytic = x.mapv(|x| 3.0 * x * x);
    analytic[[1, 2, 0]] += 0.5;
    let result = check_gradient("cube", &x, &analytic, |x| x.mapv(|x| x * x * x).sum());
    let Err(GradientError::Mismatch {
        name,
        index,
        analytic: worst,
        numeric,
        allowed,
        failing,
        entries,
    }) = result
    else {
        panic!("{result:?}")
    };
    assert_eq!(
        (name.as_str(), &index[..], failing, entries),
        ("cube", &[1, 2, 0][..], 1, 24)
    );
    assert_eq!(worst, 75.5);
    assert!((numeric - 75.0).abs() < 1e-6);
    assert!((allowed - (1e-7 + 1e-5 * 75.5)).abs() < 1e-15);
}

#[test]
fn the_worst_entry_is_the_one_furthest_beyond_its_allowance() {
    // Both are off; the first by more in absolute terms, the second by more of what it may.
    let result = check_gradient("line", &array![0.0, 0.0], &array![1001.0, 0.2], |x| {
        1000.0 * x[0] + 0.1 * x[1]
    });
    assert!(matches!(result, Err(GradientError::Mismatch { index, .. }) if index == [1]));
}

#[test]
fn layouts_are_compared_by_index() {
    let x = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let columns_first = x.t().as_standard_layout().to_owned().reversed_axes();
    assert!(!columns_first.is_standard_layout());
    let analytic = 2.0 * &x;
    let f = |x: &Array2<f64>| x.mapv(|x| x * x).sum();
    assert!(check_gradient("square", &columns_first, &analytic, f).is_ok());
}

#[test]
fn large_entries_get_a_larger_step() {
    // With an unscaled step of 6e-6, x ± step would round to x at 1e12.
    let x: Array1<f64> = array![1e12, -3e12];
    let agreement = check_gradient("half square", &x, &x.clone(), |x| 0.5 * x.dot(x)).unwrap();
    assert!(agreement.largest_ratio < 0.1, "{agreement:?}");
}

#[test]
fn the_shape_is_checked_before_the_function_is_called() {
    let result = check_gradient("dx", &Array2::zeros((2, 3)), &Array2::zeros((3, 2)), |_| {
        unreachable!("shapes differ")
    });
    let expected = GradientError::Shape {
        name: "dx".to_owned(),
        expected: vec![2, 3],
        found: vec![3, 2],
    };
    assert_eq!(result, Err(expected));
}

#[test]
fn what_is_not_finite_is_named() {
    let logarithm = |x: &Array1<f64>| x.mapv(f64::ln).sum();
    // The step reaches below zero at the second entry only.
    let x = array![1.0, 1e-7];
    let result = check_gradient("ln", &x, &array![1.0, 7.0], logarithm);
    assert!(matches!(result, Err(GradientError::NonFinite { index, .. }) if index == [1]));

    let result = check_gradient("sum", &x, &array![f64::NAN, 1.0], |x| x.sum());
    assert!(matches!(result, Err(GradientError::NonFinite { index, .. }) if index == [0]));
}

#[test]
fn unusable_settings_never_pass() {
    let x = array![1.0];
    let usual = GradientCheck::default();
    for check in [
        GradientCheck { step: 0.0, ..usual },
        GradientCheck {
            step: f64::NAN,
            ..usual
        },
        GradientCheck {
            absolute_tolerance: f64::NAN,
            ..usual
        },
        GradientCheck {
            relative_tolerance: f64::NAN,
            ..usual
        },
        GradientCheck {
            absolute_tolerance: -1.0,
            ..usual
        },
    ] {
        let result = check.check("line", &x, &array![2.0], |x| 2.0 * x[0]);
        assert!(result.is_err(), "{check:?}: {result:?}");
    }
}

#[test]
fn scalars_empty_arrays_and_dynamic_dimensions_work() {
    let scalar = Array::from_elem((), 3.0);
    let slope = Array::from_elem((), 6.0);
    assert!(check_gradient("scalar", &scalar, &slope, |x| x[()] * x[()]).is_ok());

    let empty = Array2::zeros((0, 3));
    let agreement = check_gradient("empty", &empty, &empty, |x| x.sum());
    let nothing = Agreement {
        entries: 0,
        largest_error: 0.0,
        largest_ratio: 0.0,
    };
    assert_eq!(agreement, Ok(nothing));

    let dynamic = ArrayD::from_elem(IxDyn(&[2, 1, 2]), 0.5);
    assert!(
        check_gradient("dynamic", &dynamic, &(2.0 * &dynamic), |x| x
            .mapv(|x| x * x)
            .sum())
        .is_ok()
    );
}

#[test]
fn the_difference_is_accurate_where_the_step_is_sound() {
    let x = array![0.1, 1.0, 3.0];
    let numeric = numeric_gradient(6e-6, &x, |x| x.mapv(f64::exp).sum());
    for (found, x) in numeric.iter().zip(&x) {
        assert!((found / x.exp() - 1.0).abs() < 1e-8, "{found} at {x}");
    }
}

#[test]
#[should_panic(expected = "shape of the output")]
fn a_cotangent_of_another_shape_is_refused() {
    contract(&Array2::zeros((2, 3)), &Array2::zeros((2, 1)));
}
