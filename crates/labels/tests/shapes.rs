//! The generator at drawn extents, some of which do not fit: an error where they do not, the state then
//! being as it was, and no panic.

#![allow(clippy::unwrap_used)]

use modalign_core::Store;
use modalign_labels::{LabelError, LabelGenerator, LabelGeneratorConfig, LabelState};
use ndarray::{Array1, Array2};
use proptest::prelude::*;

/// Stands for the extent that fits.
const FITS: usize = 9;

fn drawn() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(FITS), 1 => 0_usize..5]
}

fn fit(drawn: usize, fitting: usize) -> usize {
    if drawn == FITS { fitting } else { drawn }
}

fn judge<T>(what: &str, fits: bool, result: Result<T, LabelError>) -> Option<T> {
    match result {
        Ok(value) => {
            assert!(fits, "{what}: what does not fit was taken");
            Some(value)
        }
        Err(error) => {
            assert!(!fits, "{what}: {error}");
            None
        }
    }
}

fn stored(state: &LabelState<f32>) -> Store {
    let mut store = Store::default();
    state.insert_into(&mut store, "labels");
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn generator(
        n in 0_usize..5,
        widths in prop::collection::vec(prop_oneof![8 => 1_usize..4, 1 => Just(0)], 0..4),
        indices in prop::collection::vec(0_usize..5, 0..4),
        (spaces, rows, width, space) in (drawn(), drawn(), drawn(), 0_usize..5),
        epoch in 0_usize..4,
        other in 0_usize..5,
    ) {
        let labels = |n| Array1::from_shape_fn(n, |i| i as f32 - 1.5);
        let generator = LabelGenerator::new(LabelGeneratorConfig::default()).unwrap();
        let new = |n, widths: &[usize]| -> Result<LabelState<f32>, LabelError> {
            generator.initial_state(labels(n).view(), widths)
        };
        let fits = n > 0 && widths.len() > 1 && widths.iter().all(|&width| width > 0);
        let Some(mut state) = judge("initial_state", fits, new(n, &widths)) else {
            return Ok(());
        };
        prop_assert_eq!((state.samples(), state.labels().dim()), (n, (widths.len(), n)));

        let inside = indices.iter().all(|&index| index < n);
        if let Some(targets) = judge("targets", inside, state.targets(&indices)) {
            prop_assert_eq!(targets.dim(), (widths.len(), indices.len()));
        }
        if let Some(weights) = judge("weights", inside, state.loss_weights(&indices)) {
            prop_assert_eq!(weights.ncols(), indices.len());
        }

        let features: Vec<_> = (0..fit(spaces, widths.len()))
            .map(|space| {
                let own = widths.get(space).copied().unwrap_or(1);
                let shape = match space {
                    0 => (fit(rows, indices.len()), fit(width, own)),
                    _ => (indices.len(), own),
                };
                Array2::from_shape_fn(shape, |(i, j)| (i + 2 * j) as f32)
            })
            .collect();
        let views: Vec<_> = features.iter().map(|one| one.view()).collect();
        let mut once = indices.clone();
        once.sort_unstable();
        once.dedup();
        let fits = epoch > 0
            && inside
            && once.len() == indices.len()
            && features.len() == widths.len()
            && features[0].dim() == (indices.len(), widths[0]);
        let before = stored(&state);
        let taken = judge("update", fits, generator.update(&mut state, epoch, &indices, &views));
        prop_assert!(taken.is_some() || stored(&state) == before);

        let feature = Array1::ones(fit(width, widths.get(space).copied().unwrap_or(1)));
        let fits = widths.get(space).is_some_and(|&width| feature.len() == width);
        judge("distance", fits, generator.relative_distance(&state, space, feature.view()));

        let store = stored(&state);
        if let Ok(mut stranger) = new(other, &widths) {
            let before = stored(&stranger);
            let taken = judge("read_from", other == n, stranger.read_from(&store, "labels"));
            let expected = if taken.is_some() { store } else { before };
            prop_assert!(stored(&stranger) == expected);
        }
    }
}
