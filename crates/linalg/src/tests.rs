//! Every product against naive loops in f64, at drawn shapes, strides, centres and weights, for every
//! instruction set that the processor has and on one to three threads.

use std::cell::Cell;

use crate::kernel::Level;
use crate::scatter::one_read;
use crate::{LinalgError, Operand, column_means, gemm, scatter, syrk};
use ndarray::{Array1, Array2, ArrayView2, Axis, LinalgScalar, s};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

trait Real: LinalgScalar + PartialEq + std::fmt::Debug {
    /// What one rounding may cost relative to the magnitudes summed.
    const EPSILON: f64;
    fn of(x: f64) -> Self;
    fn wide(self) -> f64;
}

impl Real for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}

/// How a matrix lies in memory.
#[derive(Debug, Clone, Copy)]
enum Layout {
    RowMajor,
    ColumnMajor,
    /// Every second row and third column of a larger matrix, rows backwards.
    Strided,
}

/// Keeps the memory that a view with the drawn layout points into.
struct Laid<A> {
    base: Array2<A>,
    layout: Layout,
}

impl<A: Real> Laid<A> {
    fn new(values: &Array2<f64>, layout: Layout) -> Self {
        let (rows, columns) = values.dim();
        let base = match layout {
            Layout::RowMajor => values.mapv(A::of),
            Layout::ColumnMajor => values.t().as_standard_layout().mapv(A::of),
            Layout::Strided => {
                let mut base = Array2::from_elem((2 * rows, 3 * columns), A::of(f64::NAN));
                base.slice_mut(s![..;-2, ..;3]).assign(&values.mapv(A::of));
                base
            }
        };
        Self { base, layout }
    }

    fn view(&self) -> ArrayView2<'_, A> {
        match self.layout {
            Layout::RowMajor => self.base.view(),
            Layout::ColumnMajor => self.base.t(),
            Layout::Strided => self.base.slice(s![..;-2, ..;3]),
        }
    }

    fn view_mut(&mut self) -> ndarray::ArrayViewMut2<'_, A> {
        match self.layout {
            Layout::RowMajor => self.base.view_mut(),
            Layout::ColumnMajor => self.base.view_mut().reversed_axes(),
            Layout::Strided => self.base.slice_mut(s![..;-2, ..;3]),
        }
    }

    /// The elements of the base that the view does not reach must stay as they were made.
    fn assert_untouched(&self) {
        if let Layout::Strided = self.layout {
            let reached = self.view().len();
            let nan = self.base.iter().filter(|x| x.wide().is_nan()).count();
            assert_eq!(nan, self.base.len() - reached);
        }
    }
}

/// One drawn factor in f64, already rounded to the type under test so that both sides see the same.
struct Factor<A> {
    matrix: Laid<A>,
    center: Option<Array1<A>>,
    weights: Option<Array1<A>>,
    transposed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Form {
    layout: Layout,
    centered: bool,
    weighted: bool,
    transposed: bool,
}

impl<A: Real> Factor<A> {
    fn new((rows, columns): (usize, usize), form: Form, rng: &mut StdRng) -> Self {
        let shape = if form.transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        Self {
            matrix: Laid::new(&random(shape, rng), form.layout),
            center: form.centered.then(|| random_vector(shape.1, rng)),
            weights: form.weighted.then(|| random_vector(shape.0, rng)),
            transposed: form.transposed,
        }
    }

    fn with<R>(&self, body: impl FnOnce(Operand<'_, A>) -> R) -> R {
        let view = self.matrix.view();
        let mut operand = Operand::from(&view);
        if self.transposed {
            operand = operand.t();
        }
        if let Some(center) = &self.center {
            operand = operand.centered(center);
        }
        if let Some(weights) = &self.weights {
            operand = operand.weighted(weights);
        }
        body(operand)
    }

    fn naive(&self) -> Array2<f64> {
        let mut matrix = self.matrix.view().mapv(A::wide);
        for ((row, column), x) in matrix.indexed_iter_mut() {
            if let Some(center) = &self.center {
                *x = A::of(*x - center[column].wide()).wide();
            }
            if let Some(weights) = &self.weights {
                *x = A::of(*x * weights[row].wide()).wide();
            }
        }
        if self.transposed {
            matrix.reversed_axes()
        } else {
            matrix
        }
    }
}

/// What the tests hold fixed that is otherwise found out at run time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// None for a backend's library.
    pub level: Option<Level>,
    pub threads: usize,
}

thread_local! {
    static SETTING: Cell<Option<Setting>> = const { Cell::new(None) };
}

impl Setting {
    pub fn held() -> Option<Self> {
        SETTING.get()
    }

    fn hold<R>(self, body: impl FnOnce() -> R) -> R {
        SETTING.set(Some(self));
        let result = body();
        SETTING.set(None);
        result
    }
}

fn random(shape: (usize, usize), rng: &mut impl Rng) -> Array2<f64> {
    Array2::from_shape_simple_fn(shape, || rng.random_range(-2.0..2.0))
}

fn random_vector<A: Real>(length: usize, rng: &mut impl Rng) -> Array1<A> {
    Array1::from_shape_simple_fn(length, || A::of(rng.random_range(-2.0..2.0)))
}

/// The product and, for the tolerance, the sum of the magnitudes that went into each entry.
fn naive_product(a: &Array2<f64>, b: &Array2<f64>) -> (Array2<f64>, Array2<f64>) {
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    let mut magnitude = product.clone();
    for ((i, j), sum) in product.indexed_iter_mut() {
        for k in 0..a.ncols() {
            *sum += a[[i, k]] * b[[k, j]];
            magnitude[[i, j]] += (a[[i, k]] * b[[k, j]]).abs();
        }
    }
    (product, magnitude)
}

fn assert_near<A: Real>(
    found: ArrayView2<A>,
    alpha: f64,
    (product, magnitude): &(Array2<f64>, Array2<f64>),
    beta: f64,
    before: &Array2<f64>,
    depth: usize,
) {
    for ((index, &found), &before) in found.indexed_iter().zip(before) {
        let kept = if beta == 0.0 { 0.0 } else { beta * before };
        let expected = alpha * product[index] + kept;
        let scale = alpha.abs() * magnitude[index] + kept.abs();
        let allowed = (depth as f64 + 4.0) * A::EPSILON * scale;
        assert!(
            (found.wide() - expected).abs() <= allowed,
            "{index:?}: {found:?}, expected {expected}, allowed {allowed:e}"
        );
    }
}

const COEFFICIENTS: [(f64, f64); 5] = [
    (0.0, 0.0),
    (1.0, 0.0),
    (-0.5, 1.0),
    (0.0, 2.0),
    (0.25, -1.5),
];

/// What the result holds before the call: NaN where it must not be read.
fn before(beta: f64, shape: (usize, usize), rng: &mut StdRng) -> Array2<f64> {
    if beta == 0.0 {
        Array2::from_elem(shape, f64::NAN)
    } else {
        random(shape, rng).mapv(|x| f64::from(x as f32))
    }
}

fn check_gemm<A: Real>(
    (m, k, n): (usize, usize, usize),
    forms: [Form; 2],
    layout: Layout,
    coefficients: (f64, f64),
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let a = Factor::<A>::new((m, k), forms[0], &mut rng);
    let b = Factor::<A>::new((k, n), forms[1], &mut rng);
    let before = before(coefficients.1, (m, n), &mut rng);
    let mut c = Laid::<A>::new(&before, layout);
    let (alpha, beta) = coefficients;
    a.with(|a| b.with(|b| gemm(A::of(alpha), a, b, A::of(beta), &mut c.view_mut())))
        .expect("shapes fit");
    let naive = naive_product(&a.naive(), &b.naive());
    assert_near(c.view(), alpha, &naive, beta, &before, k);
    c.assert_untouched();
}

fn check_syrk<A: Real>(
    (m, k): (usize, usize),
    form: Form,
    layout: Layout,
    coefficients: (f64, f64),
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let p = Factor::<A>::new((m, k), form, &mut rng);
    let mut before = before(coefficients.1, (m, m), &mut rng);
    before = Array2::from_shape_fn((m, m), |(i, j)| before[[i.max(j), i.min(j)]]);
    let mut c = Laid::<A>::new(&before, layout);
    let (alpha, beta) = coefficients;
    p.with(|p| syrk(A::of(alpha), p, A::of(beta), &mut c.view_mut()))
        .expect("shapes fit");
    let factor = p.naive();
    let naive = naive_product(&factor, &factor.t().to_owned());
    assert_near(c.view(), alpha, &naive, beta, &before, k);
    c.assert_untouched();
    assert_eq!(c.view(), c.view().t(), "not symmetric to the last bit");
}

fn check_means<A: Real>((n, d): (usize, usize), layout: Layout, weighted: bool, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let x = Laid::<A>::new(&random((n, d), &mut rng), layout);
    let weights =
        weighted.then(|| Array1::from_shape_simple_fn(n, || A::of(rng.random_range(0.1..2.0))));
    let mut means = Array1::from_elem(d, A::of(f64::NAN));
    let result = column_means(&x.view(), weights.as_ref().map(|w| w.view()), &mut means);
    if n == 0 {
        let operation = "column_means";
        assert_eq!(result, Err(LinalgError::NoWeight { operation }));
        return;
    }
    result.expect("shapes fit");
    let wide = x.view().mapv(A::wide);
    for (column, mean) in wide.axis_iter(Axis(1)).zip(&means) {
        let (mut sum, mut magnitude, mut total) = (0.0, 0.0, 0.0);
        for (row, x) in column.iter().enumerate() {
            let weight = weights.as_ref().map_or(1.0, |weights| weights[row].wide());
            sum += weight * x;
            magnitude += (weight * x).abs();
            total += weight;
        }
        let allowed = 24.0 * A::EPSILON * magnitude / total;
        assert!((mean.wide() - sum / total).abs() <= allowed);
    }
}

/// Columns of different means and spreads.
fn samples((n, d): (usize, usize), rng: &mut StdRng) -> Array2<f64> {
    let mut x = random((n, d), rng);
    for mut column in x.columns_mut() {
        let (mean, spread) = (rng.random_range(-4.0..4.0), rng.random_range(0.1..2.0));
        column.mapv_inplace(|x| mean + spread * x);
    }
    x
}

fn check_scatter<A: Real>(shape: (usize, usize), layouts: [Layout; 2], alpha: f64, seed: u64) {
    let (n, d) = shape;
    let x = Laid::<A>::new(
        &samples(shape, &mut StdRng::seed_from_u64(seed)),
        layouts[0],
    );
    let mut means = Array1::from_elem(d, A::of(f64::NAN));
    let mut c = Laid::<A>::new(&Array2::from_elem((d, d), f64::NAN), layouts[1]);
    let done = one_read(A::of(alpha), &x.view(), &mut means, &mut c.view_mut());
    let possible = d > 0 && !matches!(layouts[1], Layout::Strided);
    if cfg!(feature = "blas") || !possible {
        assert_eq!(done, Ok(false));
        scatter(A::of(alpha), &x.view(), &mut means, &mut c.view_mut()).expect("shapes fit");
    } else {
        assert_eq!(done, Ok(true), "of so many rows no guess is far off");
    }
    let mut wide = x.view().mapv(A::wide);
    let magnitude = wide.mapv(f64::abs).sum_axis(Axis(0)) / n as f64;
    let exact = wide.sum_axis(Axis(0)) / n as f64;
    for ((&mean, &exact), magnitude) in means.iter().zip(&exact).zip(&magnitude) {
        let allowed = 24.0 * A::EPSILON * magnitude;
        assert!(
            (mean.wide() - exact).abs() <= allowed,
            "{mean:?}, expected {exact}"
        );
    }
    wide -= &exact;
    let (product, mut magnitude) = naive_product(&wide.t().to_owned(), &wide);
    // A centred entry is off by the rounding of the entry, of its centre and of their difference.
    for ((i, j), sum) in magnitude.indexed_iter_mut() {
        for row in wide.rows() {
            let rounding = |column: usize| exact[column].abs() + row[column].abs();
            *sum += (row[i].abs() * rounding(j) + row[j].abs() * rounding(i)) / 64.0;
        }
    }
    let before = Array2::zeros((d, d));
    assert_near(c.view(), alpha, &(product, magnitude), 0.0, &before, n + 64);
    c.assert_untouched();
    assert_eq!(c.view(), c.view().t(), "not symmetric to the last bit");
}

/// Extents around zero, one, and the edges of registers, panels, blocks and passes.
/// How often a property is tried: seldom where an interpreter looks at every read and write.
const CASES: u32 = if cfg!(miri) { 12 } else { 256 };

/// The largest extent: one of each kind of block is enough there.
const LARGEST: usize = if cfg!(miri) { 40 } else { 700 };

fn extent() -> impl Strategy<Value = usize> {
    let extents = prop_oneof![
        3 => 0..4_usize,
        3 => 4..70_usize,
        1 => 70..300_usize,
        1 => prop::sample::select(vec![15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 96, 127, 128, 129]),
    ];
    extents.prop_map(|extent| extent.min(LARGEST))
}

fn depth() -> impl Strategy<Value = usize> {
    let depths = prop_oneof![
        6 => extent(),
        1 => prop::sample::select(vec![255, 256, 257, 511, 512, 513, 700]),
    ];
    depths.prop_map(|depth| depth.min(LARGEST))
}

fn layout() -> impl Strategy<Value = Layout> {
    prop::sample::select(vec![Layout::RowMajor, Layout::ColumnMajor, Layout::Strided])
}

fn form() -> impl Strategy<Value = Form> {
    (layout(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(layout, centered, weighted, transposed)| Form {
            layout,
            centered,
            weighted,
            transposed,
        },
    )
}

fn setting() -> impl Strategy<Value = Setting> {
    let best = Level::detect();
    let levels: Vec<_> = [Level::Baseline, Level::Avx2, Level::Avx512]
        .into_iter()
        .filter(|&level| level <= best)
        .map(Some)
        .chain(cfg!(feature = "blas").then_some(None))
        .collect();
    (prop::sample::select(levels), 1..4_usize)
        .prop_map(|(level, threads)| Setting { level, threads })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn gemm_is_the_naive_product(
        shape in (extent(), depth(), extent()),
        forms in [form(), form()],
        layout in layout(),
        coefficients in prop::sample::select(COEFFICIENTS.to_vec()),
        setting in setting(),
        seed: u64,
    ) {
        setting.hold(|| {
            check_gemm::<f32>(shape, forms, layout, coefficients, seed);
            check_gemm::<f64>(shape, forms, layout, coefficients, seed);
        });
    }

    #[test]
    fn syrk_is_the_naive_product(
        shape in (extent(), depth()),
        form in form(),
        layout in layout(),
        coefficients in prop::sample::select(COEFFICIENTS.to_vec()),
        setting in setting(),
        seed: u64,
    ) {
        setting.hold(|| {
            check_syrk::<f32>(shape, form, layout, coefficients, seed);
            check_syrk::<f64>(shape, form, layout, coefficients, seed);
        });
    }

    #[test]
    fn column_means_are_the_naive_means(
        shape in (depth(), depth()),
        layout in layout(),
        weighted: bool,
        setting in setting(),
        seed: u64,
    ) {
        setting.hold(|| {
            check_means::<f32>(shape, layout, weighted, seed);
            check_means::<f64>(shape, layout, weighted, seed);
        });
    }

    #[test]
    fn scatter_is_the_naive_scatter(
        shape in (64..300_usize, extent()),
        layouts in [layout(), layout()],
        alpha in 0.001..2.0,
        setting in setting(),
        seed: u64,
    ) {
        setting.hold(|| {
            check_scatter::<f32>(shape, layouts, alpha, seed);
            check_scatter::<f64>(shape, layouts, alpha, seed);
        });
    }

    #[test]
    fn threads_change_no_bit(
        (m, k, n) in (extent(), depth(), extent()),
        forms in [form(), form()],
        layout in layout(),
        seed: u64,
    ) {
        let results = [1, 2, 3].map(|threads| {
            let level = Some(Level::detect());
            Setting { level, threads }.hold(|| {
                let mut rng = StdRng::seed_from_u64(seed);
                let a = Factor::<f32>::new((m, k), forms[0], &mut rng);
                let b = Factor::<f32>::new((k, n), forms[1], &mut rng);
                let mut product = Laid::new(&Array2::zeros((m, n)), layout);
                let mut square = Laid::new(&Array2::zeros((m, m)), layout);
                let mut means = Array1::zeros(a.matrix.view().ncols());
                a.with(|a| {
                    b.with(|b| gemm(0.5, a, b, 0.0, &mut product.view_mut()))?;
                    syrk(0.5, a, 0.0, &mut square.view_mut())
                })
                .expect("shapes fit");
                // No rows have no mean; the zeros then stay.
                let _ = column_means(&a.matrix.view(), None, &mut means);
                let mut guessed = means.clone();
                let mut scattered = Array2::zeros((means.len(), means.len()));
                let x = &a.matrix.view();
                let done = one_read(0.5, x, &mut guessed, &mut scattered);
                (
                    product.view().to_owned(),
                    square.view().to_owned(),
                    means,
                    done.map(|done| (done, guessed, scattered)),
                )
            })
        });
        prop_assert_eq!(&results[0], &results[1]);
        prop_assert_eq!(&results[0], &results[2]);
    }
}

/// `scatter` of samples that are large enough to be read once.
fn scattered(x: &Array2<f32>) -> (Array1<f32>, Array2<f32>) {
    let columns = x.ncols();
    let (mut means, mut c) = (Array1::zeros(columns), Array2::zeros((columns, columns)));
    let alpha = 1.0 / (x.nrows() - 1) as f32;
    scatter(alpha, x, &mut means, &mut c).expect("shapes fit");
    (means, c)
}

#[test]
fn a_guess_far_off_is_not_used() {
    let mut rng = StdRng::seed_from_u64(3);
    // The rows that the means are guessed from, one of 16, say nothing about the others.
    let x = samples((1024, 80), &mut rng).mapv(|x| x as f32);
    let x = Array2::from_shape_fn(x.dim(), |(row, column)| {
        let far = if row % 16 == 0 { 1e4 } else { 0.0 };
        x[[row, column]] + far
    });
    let (mut means, mut c) = (Array1::zeros(80), Array2::zeros((80, 80)));
    assert_eq!(one_read(1.0, &x, &mut means, &mut c), Ok(false));
    let (means, c) = scattered(&x);
    let wide = x.mapv(f64::from);
    let exact = wide.mean_axis(Axis(0)).expect("there are rows");
    let wide = wide - &exact;
    let expected = wide.t().dot(&wide) / 1023.0;
    for (&mean, exact) in means.iter().zip(&exact) {
        assert!((f64::from(mean) / exact - 1.0).abs() < 1e-6);
    }
    for (&found, expected) in c.iter().zip(&expected) {
        assert!((f64::from(found) / expected - 1.0).abs() < 1e-5);
    }
}

#[test]
fn constant_columns_have_no_variance() {
    let mut x = samples((1000, 80), &mut StdRng::seed_from_u64(4)).mapv(|x| x as f32);
    x.slice_mut(s![.., ..40]).fill(0.1);
    let (means, c) = scattered(&x);
    assert!(means.iter().take(40).all(|&mean| mean == 0.1));
    for column in 0..40 {
        assert!(c.row(column).iter().all(|&entry| entry == 0.0));
    }
    assert!(c[[40, 40]] > 0.0);
}

#[test]
fn what_is_not_finite_shows_in_the_means() {
    let mut x = samples((1000, 80), &mut StdRng::seed_from_u64(5)).mapv(|x| x as f32);
    for (row, bad) in [(0, f32::NAN), (999, f32::NAN), (17, f32::INFINITY)] {
        let before = std::mem::replace(&mut x[[row, 7]], bad);
        let (means, _) = scattered(&x);
        assert!(!means[7].is_finite());
        assert_eq!(means.iter().filter(|mean| mean.is_finite()).count(), 79);
        x[[row, 7]] = before;
    }
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let (x, short) = (Array2::<f64>::zeros((3, 4)), Array1::zeros(2));
    let mut c = Array2::zeros((3, 3));
    let shape = |operation, operand, expected, found| {
        Err(LinalgError::Shape {
            operation,
            operand,
            expected,
            found,
        })
    };
    let length = |operation, operand, expected, found| {
        Err(LinalgError::Length {
            operation,
            operand,
            expected,
            found,
        })
    };
    assert_eq!(
        gemm(1.0, &x, &x, 0.0, &mut c),
        shape("gemm", "b", [4, 4], [3, 4])
    );
    let mut wrong = Array2::zeros((4, 3));
    assert_eq!(
        gemm(1.0, &x, &x.t(), 0.0, &mut wrong),
        shape("gemm", "c", [3, 3], [4, 3])
    );
    assert_eq!(
        syrk(1.0, &x, 0.0, &mut wrong),
        shape("syrk", "c", [3, 3], [4, 3])
    );
    let centered = Operand::from(&x).centered(&short);
    assert_eq!(
        syrk(1.0, centered, 0.0, &mut c),
        length("syrk", "center", 4, 2)
    );
    let weighted = Operand::from(&x).weighted(&short);
    assert_eq!(
        gemm(1.0, weighted, &x.t(), 0.0, &mut c),
        length("gemm", "weights", 3, 2)
    );
    let mut means = Array1::zeros(3);
    let found = column_means(&x, None, &mut means);
    assert_eq!(found, length("column_means", "means", 4, 3));
    let found = column_means(&x, Some(short.view()), &mut Array1::zeros(4));
    assert_eq!(found, length("column_means", "weights", 3, 2));
    let found = scatter(1.0, &x, &mut means, &mut Array2::zeros((4, 4)));
    assert_eq!(found, length("scatter", "means", 4, 3));
    let found = scatter(1.0, &x, &mut Array1::zeros(4), &mut c);
    assert_eq!(found, shape("scatter", "c", [4, 4], [3, 3]));
    let empty = Array2::<f64>::zeros((0, 3));
    let operation = "column_means";
    let found = scatter(1.0, &empty, &mut means, &mut c);
    assert_eq!(found, Err(LinalgError::NoWeight { operation }));
}

#[test]
fn weights_that_cancel_have_no_mean() {
    let x = Array2::<f32>::ones((2, 1));
    let weights = ndarray::array![1.0, -1.0];
    let found = column_means(&x, Some(weights.view()), &mut Array1::zeros(1));
    let operation = "column_means";
    assert_eq!(found, Err(LinalgError::NoWeight { operation }));
}

#[test]
fn other_number_types_are_multiplied_too() {
    let a = ndarray::array![[1_i64, 2], [3, 4]];
    let mut c = ndarray::array![[1_i64, 0], [0, 1]];
    gemm(2, &a, &a.t(), -1, &mut c).expect("shapes fit");
    assert_eq!(c, ndarray::array![[9, 22], [22, 49]]);
    syrk(
        1,
        Operand::from(&a).centered(&ndarray::array![1, 2]),
        0,
        &mut c,
    )
    .expect("shapes fit");
    assert_eq!(c, ndarray::array![[0, 0], [0, 8]]);
}

#[test]
fn a_large_common_offset_cancels() {
    let mut rng = StdRng::seed_from_u64(7);
    let offset = 1e6;
    let x = random((500, 40), &mut rng).mapv(|x| (x + offset) as f32);
    let mut mean = Array1::zeros(40);
    column_means(&x, None, &mut mean).expect("shapes fit");
    let mut covariance = Array2::zeros((40, 40));
    let centered = Operand::from(&x).centered(&mean);
    syrk(1.0 / 499.0, centered.t(), 0.0, &mut covariance).expect("shapes fit");

    let wide = x.mapv(f64::from);
    let centered = &wide - &wide.mean_axis(Axis(0)).expect("500 rows");
    let expected = centered.t().dot(&centered) / 499.0;
    // The mean is off by half a unit in its last place, 1/32 at 1e6, and the covariance by its square.
    let allowed = (1.0 / 32.0_f64).powi(2) * 500.0 / 499.0 + 1e-5;
    for (&found, expected) in covariance.iter().zip(&expected) {
        assert!((f64::from(found) - expected).abs() < allowed);
    }
}

/// Into memory of its own a product comes with the bits that it has in zeros.
/// Several passes over a result that is too large for the cache.
#[test]
fn large_results_are_the_naive_product() {
    let mut rng = StdRng::seed_from_u64(1);
    let (a, b) = (random((730, 1000), &mut rng), random((720, 1000), &mut rng));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let mut c = Array2::ones((730, 720));
        pool.unwrap()
            .install(|| gemm(1.0, &a, &b.t(), -0.5, &mut c))
            .unwrap();
        c
    };
    let found = run(1);
    assert_eq!(run(2), found);
    let naive = naive_product(&a, &b.t().to_owned());
    assert_near(
        found.view(),
        1.0,
        &naive,
        -0.5,
        &Array2::ones((730, 720)),
        1000,
    );
}
