//! Once warm, no product allocates.

use std::hint::black_box;

use modalign_linalg::{Operand, column_means, gemm, scatter, syrk};
use ndarray::{Array1, Array2};

fn allocations(body: impl FnOnce()) -> u64 {
    allocation_counter::measure(body).count_total
}

#[test]
fn warm_products_do_not_allocate() {
    assert!(
        allocations(|| drop(black_box(vec![0_u8; 9]))) > 0,
        "nothing is counted"
    );
    for (n, d) in [(32, 32), (32, 768), (300, 200), (700, 120)] {
        let x = Array2::from_shape_fn((n, d), |(i, j)| (i * 7 + j * 3) as f32 % 11.0);
        let y = Array2::from_shape_fn((n, d), |(i, j)| (i * 5 + j) as f32 % 13.0);
        let weights = Array1::from_elem(n, 0.5);
        let mut mean = Array1::zeros(d);
        let (mut square, mut gram) = (Array2::zeros((d, d)), Array2::zeros((n, n)));
        let mut gradient = Array2::zeros((n, d));
        let mut products = || {
            column_means(&x, Some(weights.view()), &mut mean).expect("shapes fit");
            let centered = Operand::from(&x).centered(&mean).weighted(&weights);
            syrk(1.0, centered.t(), 0.0, &mut square).expect("shapes fit");
            syrk(1.0, centered, 0.0, &mut gram).expect("shapes fit");
            gemm(1.0, centered, &y.t(), 1.0, &mut gram).expect("shapes fit");
            gemm(1.0, centered, &square, 0.0, &mut gradient).expect("shapes fit");
            scatter(1.0, &x, &mut mean, &mut square).expect("shapes fit");
        };
        products();
        assert_eq!(allocations(products), 0, "at {n} x {d}");
    }
}
