//! The metrics against MMSA's own code.

use std::process::ExitCode;

use modalign_metrics::{Convention, evaluate};
use modalign_oracle_tests::{Fixture, run};
use ndarray::Array1;

fn inputs(fixture: &Fixture, case: &str) -> [Array1<f32>; 2] {
    ["pred", "true"].map(|name| {
        let values = fixture.array(&format!("{case}/{name}"));
        // Stored as float32, so that narrowing is exact.
        values.iter().map(|&value| value as f32).collect()
    })
}

fn check(fixture: &Fixture, convention: Convention, case: &str) {
    let [predictions, labels] = inputs(fixture, case);
    let report = evaluate(convention, predictions.view(), labels.view()).expect("good input");
    let stored = fixture
        .names()
        .filter(|name| name.starts_with(&format!("{case}/m/")))
        .count();
    assert_eq!(stored, report.iter().len(), "{case}: number of metrics");
    for (metric, value) in report.iter() {
        let value = value.expect("defined");
        let exact = fixture.scalar(&format!("{case}/exact/{metric}"));
        assert!(
            (value - exact).abs() <= 1e-10,
            "{case}: {metric} is {value}, expected {exact}"
        );
        let printed = fixture.scalar(&format!("{case}/m/{metric}"));
        assert_eq!(
            report.rounded().get(metric),
            Some(printed),
            "{case}: {metric} as printed"
        );
    }
}

fn mosi(fixture: &Fixture) {
    for case in ["mosi_random", "mosi_allpos", "mosi_perfect"] {
        check(fixture, Convention::Mosi, case);
    }
}

fn mosei(fixture: &Fixture) {
    check(fixture, Convention::Mosei, "mosei_edges");
}

fn sims(fixture: &Fixture) {
    for case in ["sims_random", "sims_edges"] {
        check(fixture, Convention::Sims, case);
    }
}

fn every_case_is_checked(fixture: &Fixture) {
    let cases = fixture
        .names()
        .filter(|name| name.ends_with("/pred"))
        .count();
    assert_eq!(cases, 6);
}

/// A float32 mean has its own last bits; NumPy's order of summation gives them all.
fn the_error_has_the_bits_of_numpy(fixture: &Fixture) {
    let [predictions, labels] = inputs(fixture, "mosi_random");
    let error = modalign_metrics::mean_absolute_error(predictions.view(), labels.view());
    let expected = fixture.scalar("mosi_random/exact/MAE");
    assert_eq!(error.map(f64::from), Ok(expected));
}

fn main() -> ExitCode {
    let file = "oracle/metrics.npz";
    run(vec![
        ("MOSI", file, mosi),
        ("MOSEI", file, mosei),
        ("SIMS", file, sims),
        ("every case is checked", file, every_case_is_checked),
        (
            "the error has the bits of NumPy",
            file,
            the_error_has_the_bits_of_numpy,
        ),
    ])
}
