//! Nothing is allocated per call once the work space has its size.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use modalign_covariance::{
    Batch, Distance, PairWeights, Route, SharedInformation, SharedInformationConfig, Shrinkage,
};
use ndarray::{Array1, Array2};

#[test]
fn a_warm_loss_allocates_nothing() {
    let counted = allocation_counter::measure(|| drop(black_box(vec![0_u8; 9])));
    assert_eq!(counted.count_total, 1, "nothing is counted");
    let distances = [
        Distance::Frobenius {
            route: Route::Covariance,
        },
        Distance::Frobenius { route: Route::Gram },
        Distance::Correlation { epsilon: 1e-6 },
        Distance::CrossCovariance {},
        Distance::RedundancyReduction {
            off_diagonal: 0.1,
            epsilon: 1e-6,
        },
    ];
    let features = [1, 2, 3].map(|modality| {
        Array2::from_shape_fn((24, 17), |(i, j)| {
            ((i * 31 + j * 17 + modality * i * j) % 13) as f32
        })
    });
    let present = Array1::from_shape_fn(24, |row| if row % 5 == 0 { 0.0 } else { 1.0 });
    let batches = [
        features[0].view().into(),
        Batch::from(features[1].view()).weighted(present.view()),
        features[2].view().into(),
    ];
    let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
    for distance in distances {
        for shrinkage in [
            Shrinkage::None,
            Shrinkage::Fixed(0.1),
            Shrinkage::LedoitWolf,
        ] {
            let config = SharedInformationConfig {
                distance,
                shrinkage,
                ..Default::default()
            };
            let weights = PairWeights::uniform(3, 1.0).unwrap();
            let Ok(mut loss) = SharedInformation::new(config, weights) else {
                continue;
            };
            loss.value_and_gradient(&batches, &mut gradients).unwrap();
            let counted = allocation_counter::measure(|| {
                loss.value_and_gradient(&batches, &mut gradients).unwrap();
                loss.value(&batches).unwrap();
            });
            assert_eq!(counted.count_total, 0, "{distance:?}, {shrinkage:?}");
        }
    }
}
