//! Covariances, the pair loss and its gradients, and the off-diagonal penalty against PyTorch.

use std::process::ExitCode;

use modalign_covariance::{
    Distance, PairWeights, Route, SharedInformation, SharedInformationConfig, coral, covariance,
    off_diagonal_penalty,
};
use modalign_oracle_tests::{Fixture, assert_close, run};
use ndarray::{Array2, ArrayD, Ix2, arr0};

const CASES: [&str; 12] = [
    "basic",
    "square32",
    "n2",
    "d1",
    "n2d1",
    "n_lt_d",
    "rankdef",
    "identical",
    "constcols",
    "allconst",
    "offset1e6",
    "tiny",
];
const UNEVEN_AND_BIG: [&str; 2] = ["uneven_n", "big"];
const ROUTES: [Route; 3] = [Route::Auto, Route::Covariance, Route::Gram];

fn main() -> ExitCode {
    run(vec![
        (
            "every case of the file is tested",
            "oracle/cov.npz",
            every_case_is_known,
        ),
        ("covariances", "oracle/cov.npz", covariances),
        (
            "pair loss, every route and both divisors",
            "oracle/cov.npz",
            pair_loss,
        ),
        ("coral", "oracle/cov.npz", coral_by_name),
        ("off-diagonal penalty", "oracle/cov.npz", off_diagonal),
        ("weighted pairs", "oracle/cov.npz", weighted_pairs),
    ])
}

fn cases() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().chain(UNEVEN_AND_BIG)
}

fn tolerance(case: &str) -> f64 {
    if case == "offset1e6" { 1e-7 } else { 1e-10 }
}

fn matrix(fixture: &Fixture, name: &str) -> Array2<f64> {
    fixture
        .array(name)
        .into_dimensionality::<Ix2>()
        .expect("a matrix")
}

fn number(value: f64) -> ArrayD<f64> {
    arr0(value).into_dyn()
}

fn every_case_is_known(fixture: &Fixture) {
    let mut found: Vec<_> = fixture
        .names()
        .filter_map(|name| name.strip_suffix("/covA"))
        .collect();
    let mut known: Vec<_> = cases().collect();
    found.sort_unstable();
    known.sort_unstable();
    assert_eq!(found, known);
}

fn covariances(fixture: &Fixture) {
    for case in cases() {
        for side in ["A", "B"] {
            let x = matrix(fixture, &format!("{case}/{side}"));
            let expected = fixture.array(&format!("{case}/cov{side}"));
            let found = covariance(x.view(), 1).expect("finite features");
            assert_close(
                &format!("{case}/cov{side}"),
                &found,
                &expected,
                tolerance(case),
            );
        }
    }
}

fn pair_loss(fixture: &Fixture) {
    for case in cases() {
        let [a, b] = ["A", "B"].map(|side| matrix(fixture, &format!("{case}/{side}")));
        for route in ROUTES {
            for (ddof, suffix) in [(1, ""), (0, "_n")] {
                let distance = Distance::Frobenius { route };
                let config = SharedInformationConfig {
                    ddof,
                    distance,
                    ..Default::default()
                };
                let weights = PairWeights::uniform(2, 1.0).expect("a finite weight");
                let mut loss = SharedInformation::new(config, weights).expect("valid settings");
                let mut gradients = [Array2::zeros(a.raw_dim()), Array2::zeros(b.raw_dim())];
                let features = [a.view(), b.view()];
                let total = loss
                    .value_and_gradient(&features, &mut gradients)
                    .expect("finite features")
                    .total;
                let check = |name: &str, found: ArrayD<f64>| {
                    let name = format!("{case}/{name}{suffix}");
                    let what = format!("{name} by {route:?}");
                    assert_close(&what, &found, &fixture.array(&name), tolerance(case));
                };
                check("loss", number(total));
                let [da, db] = gradients;
                check("gA", da.into_dyn());
                check("gB", db.into_dyn());
                if ddof == 1 {
                    check(
                        "loss_raw",
                        number(total * (4 * a.ncols() * a.ncols()) as f64),
                    );
                }
            }
        }
    }
}

fn coral_by_name(fixture: &Fixture) {
    for case in cases() {
        let [a, b] = ["A", "B"].map(|side| matrix(fixture, &format!("{case}/{side}")));
        let (value, da, db) = coral(a.view(), b.view()).expect("finite features");
        for (name, found) in [
            ("loss", number(value)),
            ("gA", da.into_dyn()),
            ("gB", db.into_dyn()),
        ] {
            let name = format!("{case}/{name}");
            assert_close(&name, &found, &fixture.array(&name), tolerance(case));
        }
    }
}

fn off_diagonal(fixture: &Fixture) {
    for case in cases() {
        let a = matrix(fixture, &format!("{case}/A"));
        let (value, gradient) = off_diagonal_penalty(a.view(), 1).expect("finite features");
        for (name, found) in [("vic", number(value)), ("gvicA", gradient.into_dyn())] {
            let name = format!("{case}/{name}");
            assert_close(&name, &found, &fixture.array(&name), tolerance(case));
        }
    }
}

fn weighted_pairs(fixture: &Fixture) {
    let features = ["T", "A", "V"].map(|name| matrix(fixture, &format!("pairs/{name}")));
    let w = fixture.array("pairs/w");
    let pairs = [(0, 1, w[0]), (0, 2, w[1]), (1, 2, w[2])];
    for route in ROUTES {
        let weights = PairWeights::from_pairs(3, &pairs).expect("three pairs");
        let distance = Distance::Frobenius { route };
        let config = SharedInformationConfig {
            distance,
            ..Default::default()
        };
        let mut loss = SharedInformation::new(config, weights).expect("valid settings");
        let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
        let views = features.each_ref().map(|x| x.view());
        let value = loss
            .value_and_gradient(&views, &mut gradients)
            .expect("finite features");
        assert_close(
            "total",
            &number(value.total),
            &fixture.array("pairs/total"),
            1e-10,
        );
        let distances: Vec<_> = value.pairs.iter().map(|pair| pair.distance).collect();
        let distances = ArrayD::from_shape_vec(vec![3], distances).expect("three pairs");
        assert_close("losses", &distances, &fixture.array("pairs/losses"), 1e-10);
        for (name, gradient) in ["T", "A", "V"].iter().zip(gradients) {
            let name = format!("pairs/g{name}");
            let what = format!("{name} by {route:?}");
            assert_close(&what, &gradient.into_dyn(), &fixture.array(&name), 1e-10);
        }
    }
}
