//! Tutorial 2: check a gradient of your own.
//!
//! A hand-written backward pass is easy to get almost right. Central differences tell: they need the
//! forward pass alone, and a wrong entry is named. Here the gradient is that of a softened absolute
//! error, once right and once with a factor forgotten.

use std::error::Error;

use modalign_gradcheck::{GradientCheck, check_gradient};
use ndarray::{Array1, array};

/// `1/N Σ_n (√((p_n − y_n)² + w²) − w)`: quadratic near zero, linear far away.
fn value(predictions: &Array1<f64>, labels: &Array1<f64>, width: f64) -> f64 {
    let errors = predictions - labels;
    errors.mapv(|e| e.hypot(width) - width).sum() / errors.len() as f64
}

/// `1/N (p_n − y_n) / √((p_n − y_n)² + w²)`
fn gradient(predictions: &Array1<f64>, labels: &Array1<f64>, width: f64) -> Array1<f64> {
    let errors = predictions - labels;
    errors.mapv(|e| e / e.hypot(width)) / errors.len() as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let labels = array![-2.0, 0.4, 3.0, 1.0];
    let predictions = array![-1.2, 0.5, 0.1, -2.5];

    // Several hyper-parameters: with the default alone, a term that it makes vanish goes unseen.
    for width in [0.1, 1.0, 3.0] {
        let analytic = gradient(&predictions, &labels, width);
        let agreement = check_gradient("predictions", &predictions, &analytic, |p| {
            value(p, &labels, width)
        })?;
        println!(
            "width {width}: {} entries agree, largest error {:.1e}",
            agreement.entries, agreement.largest_error
        );
        assert!(agreement.largest_error < 1e-8);
    }

    // The mean turned into a sum: every entry is N times too large.
    let wrong = gradient(&predictions, &labels, 1.0) * labels.len() as f64;
    match check_gradient("predictions", &predictions, &wrong, |p| {
        value(p, &labels, 1.0)
    }) {
        Ok(_) => println!("the check saw nothing"),
        Err(error) => println!("refused: {error}"),
    }

    // How much is too much is yours to say. An error of one in a thousand:
    let slightly_wrong = gradient(&predictions, &labels, 1.0) * 1.001;
    let lenient = GradientCheck {
        relative_tolerance: 1e-2,
        ..GradientCheck::default()
    };
    for (name, check) in [("lenient", lenient), ("default", GradientCheck::default())] {
        let found = check.check("predictions", &predictions, &slightly_wrong, |p| {
            value(p, &labels, 1.0)
        });
        println!(
            "{name} check: {}",
            if found.is_ok() { "passes" } else { "fails" }
        );
    }
    Ok(())
}
