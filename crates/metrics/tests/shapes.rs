//! Every function at drawn lengths: an error unless there are rows and both lengths agree, and no
//! panic.

#![allow(clippy::unwrap_used)]

use modalign_metrics::{
    Convention, accuracy, evaluate, interval_class, mean_absolute_error, pearson_correlation,
    rounded_class, summarise, weighted_f1,
};
use ndarray::Array1;
use proptest::prelude::*;

proptest! {
    #[test]
    fn two_vectors(n in 0_usize..5, other in 0_usize..5, same in any::<bool>()) {
        let other = if same { n } else { other };
        let fits = n > 0 && n == other;
        let numbers = |n: usize| Array1::from_shape_fn(n, |i| i as f32 - 1.5);
        let classes = |n: usize| Array1::from_shape_fn(n, |i| i % 2);
        let (x, y) = (numbers(n), numbers(other));
        let (a, b) = (classes(n), classes(other));
        prop_assert_eq!(accuracy(a.view(), b.view()).is_ok(), fits);
        prop_assert_eq!(weighted_f1(a.view(), b.view()).is_ok(), fits);
        prop_assert_eq!(mean_absolute_error(x.view(), y.view()).is_ok(), fits);
        prop_assert_eq!(pearson_correlation(x.view(), y.view()).is_ok(), fits);
        for convention in [Convention::Mosi, Convention::Mosei, Convention::Sims] {
            let report = evaluate(convention, x.view(), y.view());
            prop_assert_eq!(report.is_ok(), fits, "{:?}", report);
            let reports: Vec<_> = report.into_iter().collect();
            prop_assert_eq!(summarise(&reports).is_ok(), fits);
        }
    }

    #[test]
    fn classes_of_any_number(value in any::<f32>(), limit in any::<u8>(), edges in prop::collection::vec(any::<f32>(), 0..4)) {
        let class = rounded_class(value, limit);
        prop_assert!(class.unsigned_abs() <= u32::from(limit));
        prop_assert!(interval_class(value, &edges) <= edges.len());
    }
}
