//! Fails if any route of the loss, or the covariance, is slower than its naive twin on plain
//! `ndarray` at any shape, type or number of threads; with `--features openblas-backend`, on OpenBLAS.
//!
//! Run on a machine that has nothing else to do: `cargo bench -p modalign-benches --bench naive_gate`.

use std::hint::black_box;
use std::process::ExitCode;

use modalign_benches::{
    SHAPES, Sampled, Threads, features, naive_covariance, naive_gram_loss, naive_loss,
};
use modalign_core::Scalar;
use modalign_covariance::{
    Distance, PairWeights, Route, SharedInformation, SharedInformationConfig, covariance,
};
use ndarray::Array2;

/// Turns that both twins take, and the seconds of each.
const TURNS: usize = 5;
const SECONDS: f64 = 0.02;

/// How often a case that failed is timed again: it fails if it always does.
const REPEATS: usize = 2;

/// Most rows of both modalities together for which the Gram route is timed: its matrix is that large.
const GRAM_ROWS: usize = 1024;

/// How many times as long as `fast` the naive twin takes, by medians.
fn ratio(fast: &mut Sampled, naive: &mut Sampled) -> f64 {
    let (mut fast_times, mut naive_times) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        fast_times.extend(fast.samples(SECONDS));
        naive_times.extend(naive.samples(SECONDS));
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    median(&mut naive_times) / median(&mut fast_times)
}

/// Prints the ratio of a case, and returns whether it passes.
fn check(case: &str, mut fast: Sampled, mut naive: Sampled) -> bool {
    for _ in 0..=REPEATS {
        let ratio = ratio(&mut fast, &mut naive);
        println!("{case}: {ratio:.2}");
        if ratio >= 1.0 {
            return true;
        }
    }
    println!("{case}: SLOWER THAN ITS NAIVE TWIN");
    false
}

fn check_type<A: Scalar>(kind: &str, threads: usize) -> bool {
    let mut all = true;
    for (n, d) in SHAPES {
        let x = [features::<A>(n, d, 1), features::<A>(n, d, 2)];
        let shape = format!("n={n},d={d}/{kind}/threads={threads}");
        let fast = Sampled::new(|| {
            black_box(covariance(black_box(&x[0]).view(), 1).expect("finite features"));
        });
        let naive = Sampled::new(|| {
            black_box(naive_covariance(black_box(&x[0])));
        });
        all &= check(&format!("covariance/{shape}"), fast, naive);
        for (route, name) in [
            (Route::Auto, "auto"),
            (Route::Covariance, "covariance"),
            (Route::Gram, "gram"),
        ] {
            if route == Route::Gram && 2 * n > GRAM_ROWS {
                continue;
            }
            for backward in [false, true] {
                let config = SharedInformationConfig {
                    distance: Distance::Frobenius { route },
                    ..Default::default()
                };
                let weights = PairWeights::uniform(2, 1.0).expect("a finite weight");
                let mut loss = SharedInformation::new(config, weights).expect("valid settings");
                let mut gradients = x.each_ref().map(|x| Array2::zeros(x.raw_dim()));
                let fast = Sampled::new(|| {
                    let views = black_box(&x).each_ref().map(|x| x.view());
                    let value = if backward {
                        loss.value_and_gradient(&views, &mut gradients)
                    } else {
                        loss.value(&views)
                    };
                    black_box(value.expect("finite features").total);
                });
                let twin = match route {
                    Route::Gram => naive_gram_loss,
                    Route::Auto if n < d => naive_gram_loss,
                    _ => naive_loss,
                };
                let naive = Sampled::new(|| {
                    black_box(twin(black_box(&x), backward));
                });
                let pass = if backward {
                    "forward_backward"
                } else {
                    "forward"
                };
                all &= check(&format!("{name}/{pass}/{shape}"), fast, naive);
            }
        }
    }
    all
}

fn main() -> ExitCode {
    let mut all = true;
    for threads in [1, 2] {
        all &= Threads::new(threads)
            .install(|| check_type::<f32>("f32", threads) & check_type::<f64>("f64", threads));
    }
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
