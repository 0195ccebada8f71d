//! The fusion at drawn extents, some of which do not fit.

use modalign_fusion::Concatenation;
use ndarray::Array2;
use proptest::prelude::*;

proptest! {
    #[test]
    fn concatenation(
        shapes in prop::collection::vec((prop_oneof![4 => Just(3_usize), 1 => 0_usize..5], 0_usize..4), 0..4),
        (rows, width) in (0_usize..5, 0_usize..8),
        same in any::<bool>(),
    ) {
        let parts: Vec<_> = shapes.iter().map(|&shape| Array2::<f32>::ones(shape)).collect();
        let views: Vec<_> = parts.iter().map(|one| one.view()).collect();
        let fits = shapes.first().is_some_and(|first| shapes.iter().all(|shape| shape.0 == first.0));
        prop_assert_eq!(Concatenation.infer(&views).is_ok(), fits);
        let Ok((z, cache)) = Concatenation.forward(&views) else {
            prop_assert!(!fits);
            return Ok(());
        };
        prop_assert!(fits);
        let expected = (shapes[0].0, shapes.iter().map(|shape| shape.1).sum::<usize>());
        prop_assert_eq!(z.dim(), expected);
        let found = if same { expected } else { (rows, width) };
        match Concatenation.backward(cache, Array2::<f32>::ones(found).view()) {
            Ok(gradients) => {
                prop_assert_eq!(found, expected);
                let dims: Vec<_> = gradients.iter().map(|one: &Array2<f32>| one.dim()).collect();
                prop_assert_eq!(dims, shapes);
            }
            Err(_) => prop_assert_ne!(found, expected),
        }
    }
}
