use modalign_core::Scalar;
use ndarray::{Array2, Axis};

fn rows<A: Scalar>(x: &Array2<A>) -> A {
    A::from_f64(x.nrows() as f64)
}

fn centered<A: Scalar>(x: &Array2<A>) -> Array2<A> {
    x - &(x.sum_axis(Axis(0)) / rows(x))
}

/// The covariance as one would write it down with plain `ndarray`.
pub fn naive_covariance<A: Scalar>(x: &Array2<A>) -> Array2<A> {
    let x = centered(x);
    x.t().dot(&x) / (rows(&x) - A::one())
}

/// The loss of a pair, and its gradients if wanted, as one would write the formula down.
pub fn naive_loss<A: Scalar>(
    [a, b]: &[Array2<A>; 2],
    backward: bool,
) -> (A, Option<[Array2<A>; 2]>) {
    let [a, b] = [a, b].map(centered);
    let divisor = |x: &Array2<A>| rows(x) - A::one();
    let [first, second] = [&a, &b].map(|x| x.t().dot(x) / divisor(x));
    let difference = first - second;
    let squared_width = A::from_f64((a.ncols() * a.ncols()) as f64);
    let value = difference.mapv(|x| x * x).sum() / (A::from_f64(4.0) * squared_width);
    let gradients = backward.then(|| {
        let da = a.dot(&difference) / (squared_width * divisor(&a));
        let db = b.dot(&difference) / (-squared_width * divisor(&b));
        [da, db]
    });
    (value, gradients)
}

/// As [`naive_loss`], through inner products of rows.
pub fn naive_gram_loss<A: Scalar>(
    [a, b]: &[Array2<A>; 2],
    backward: bool,
) -> (A, Option<[Array2<A>; 2]>) {
    let [a, b] = [a, b].map(|x| centered(x) / (rows(x) - A::one()).sqrt());
    let [aa, bb, ab] = [a.dot(&a.t()), b.dot(&b.t()), a.dot(&b.t())];
    let squares = |x: &Array2<A>| x.mapv(|x| x * x).sum();
    let squared_width = A::from_f64((a.ncols() * a.ncols()) as f64);
    let two = A::from_f64(2.0);
    let value = (squares(&aa) + squares(&bb) - two * squares(&ab)) / (two * two * squared_width);
    let gradients = backward.then(|| {
        let factor = |x: &Array2<A>| squared_width * (rows(x) - A::one()).sqrt();
        let da = (aa.dot(&a) - ab.dot(&b)) / factor(&a);
        let db = (bb.dot(&b) - ab.t().dot(&a)) / factor(&b);
        [da, db]
    });
    (value, gradients)
}
