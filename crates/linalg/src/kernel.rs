//! What is compiled once for every instruction set: packing, the register tile, column sums.

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use num_traits::{Float, Zero};

use crate::lanes::{Lanes, Portable};

#[cfg(feature = "blas")]
pub(crate) use crate::blas::Blas as Library;

/// What a library provides for a type: without a backend, nothing.
#[cfg(not(feature = "blas"))]
pub(crate) trait Library {}

#[cfg(not(feature = "blas"))]
impl<T> Library for T {}

/// `f32` and `f64`, the types with kernels of their own.
pub(crate) trait Number: Float + Into<f64> + Library + Send + Sync + 'static {
    type Avx512: Kernel<Number = Self>;
    type Avx2: Kernel<Number = Self>;
    type Baseline: Kernel<Number = Self>;
    fn from_f64(x: f64) -> Self;
    /// Where an absent centre points.
    const ZERO: &'static Self;
    /// Where absent weights point.
    const ONE: &'static Self;
}

macro_rules! number {
    ($number:ty) => {
        impl Number for $number {
            #[cfg(target_arch = "x86_64")]
            type Avx512 = Avx512<$number>;
            #[cfg(target_arch = "x86_64")]
            type Avx2 = Avx2<$number>;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx512 = Baseline<$number>;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx2 = Baseline<$number>;
            type Baseline = Baseline<$number>;
            const ZERO: &'static Self = &0.0;
            const ONE: &'static Self = &1.0;

            fn from_f64(x: f64) -> Self {
                x as $number
            }
        }
    };
}

number!(f32);
number!(f64);

/// The instruction sets with kernels of their own, best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Baseline,
    Avx2,
    Avx512,
}

impl Level {
    /// The best one that this processor has.
    pub fn detect() -> Self {
        #[cfg(test)]
        if let Some(level) = crate::tests::Setting::held().and_then(|setting| setting.level) {
            return level;
        }
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fma
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if fma {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }
}

/// A vector along one axis of a matrix; `step` is 0 where all its entries are one constant.
#[derive(Clone, Copy)]
pub(crate) struct Along<T> {
    pub from: *const T,
    pub step: usize,
}

/// What happens to an element on its way into a panel.
#[derive(Clone, Copy)]
pub(crate) enum Treatment<T> {
    /// Nothing.
    Plain,
    /// `(x − center[r]) weights[k]`: the transpose of centred, weighted rows.
    CenterByRow { center: Along<T>, weights: Along<T> },
    /// `(x − center[k]) weights[r]`: centred, weighted rows.
    CenterByDepth { center: Along<T>, weights: Along<T> },
}

/// A factor `[rows, depth]` of a product, as memory. The right factor is given as its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Source<T> {
    pub from: *const T,
    pub row: isize,
    pub step: isize,
    pub rows: usize,
    pub depth: usize,
    pub treatment: Treatment<T>,
}

impl<T> Along<T> {
    pub unsafe fn skip(self, count: usize) -> Self {
        Self {
            // SAFETY: the vector has `count` entries at least, or is one constant and `step` is 0.
            from: unsafe { self.from.add(count * self.step) },
            step: self.step,
        }
    }

    pub unsafe fn at(self, index: usize) -> T
    where
        T: Copy,
    {
        // SAFETY: the vector has an entry `index`, or is one constant and `step` is 0.
        unsafe { *self.from.add(index * self.step) }
    }
}

impl<T> Source<T> {
    /// The part that starts at `(row, depth)`.
    pub unsafe fn part(&self, (row, rows): (usize, usize), (start, depth): (usize, usize)) -> Self
    where
        T: Copy,
    {
        // SAFETY: the caller names a part of the source, so its first element and those of its
        // vectors are within.
        unsafe {
            Self {
                from: self
                    .from
                    .offset(row as isize * self.row + start as isize * self.step),
                rows,
                depth,
                treatment: match self.treatment {
                    Treatment::Plain => Treatment::Plain,
                    Treatment::CenterByRow { center, weights } => Treatment::CenterByRow {
                        center: center.skip(row),
                        weights: weights.skip(start),
                    },
                    Treatment::CenterByDepth { center, weights } => Treatment::CenterByDepth {
                        center: center.skip(start),
                        weights: weights.skip(row),
                    },
                },
                ..*self
            }
        }
    }
}

/// The left factor of a [`Strip`]: element `(i, k)` lies at
/// `from + (i / WIDTH) group + (i % WIDTH) row + k step`.
#[derive(Clone, Copy)]
pub(crate) struct Left<T> {
    pub from: *const T,
    pub group: isize,
    pub row: isize,
    pub step: isize,
}

/// `C ← α A B + β C` for at most `WIDTH` columns.
#[derive(Clone, Copy)]
pub(crate) struct Strip<T> {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub a: Left<T>,
    /// Element `(k, j)` of `B` lies at `b + k b_step + j`.
    pub b: *const T,
    pub b_step: isize,
    /// Element `(i, j)` of `C` lies at `c + i c_row + j`.
    pub c: *mut T,
    pub c_row: isize,
    pub alpha: T,
    pub beta: T,
}

/// The functions above for one instruction set and number type.
///
/// # Safety
///
/// The caller has checked that the processor has the instruction set, and the pointers reach every
/// element described.
pub(crate) trait Kernel: Send + Sync + 'static {
    type Number: Number;
    /// Numbers in a register; divides `WIDTH`.
    const LANES: usize;
    /// Rows of a register tile; divides `WIDTH`.
    const HEIGHT: usize;
    /// Columns of a register tile and rows of a panel.
    const WIDTH: usize;
    /// Arranges a factor in panels: element `(r, k)` goes to
    /// `to + (r / WIDTH) panel + k WIDTH + r % WIDTH`. Adds the sum of each row to `sums[r]`, if
    /// sums are wanted.
    unsafe fn pack(
        source: &Source<Self::Number>,
        to: *mut Self::Number,
        panel: usize,
        sums: Option<NonNull<f64>>,
    );
    unsafe fn strip(strip: &Strip<Self::Number>);
    /// Copies the blocks of `LANES` by `LANES` elements below the diagonal of a square matrix, in
    /// rows `start..end`, to their places above it. `start` is a multiple of `LANES`. Where `outer`
    /// is given, `C − outer outerᵀ` takes the place of these rows and of what mirrors them.
    unsafe fn mirror(
        c: *mut Self::Number,
        c_row: isize,
        rows: Range<usize>,
        outer: Option<NonNull<Self::Number>>,
    );
    /// `sums[j] += Σ_i weights[i] x[i, j]` for `x [rows, columns]` with unit steps along its rows.
    unsafe fn add_rows(
        x: *const Self::Number,
        x_row: isize,
        shape: (usize, usize),
        weights: Along<Self::Number>,
        sums: *mut f64,
    );
    /// `Σ_i weights[i] x[i]` for `count` elements `step` apart.
    unsafe fn sum(
        x: *const Self::Number,
        step: isize,
        count: usize,
        weights: Along<Self::Number>,
    ) -> f64;
}

/// 512-bit registers.
pub(crate) struct Avx512<T>(PhantomData<fn() -> T>);
/// 256-bit registers and fused multiply-add.
pub(crate) struct Avx2<T>(PhantomData<fn() -> T>);
/// Whatever the target has at least.
pub(crate) struct Baseline<T>(PhantomData<fn() -> T>);

macro_rules! kernel {
    ($name:ident, $number:ty, $lanes:ty, $height:literal x $vectors:literal $(, $feature:literal)?) => {
        impl Kernel for $name<$number> {
            type Number = $number;
            const LANES: usize = <$lanes as Lanes>::COUNT;
            const HEIGHT: usize = $height;
            const WIDTH: usize = $vectors * <$lanes as Lanes>::COUNT;

            $(#[target_feature(enable = $feature)])?
            unsafe fn pack(
                source: &Source<$number>,
                to: *mut $number,
                panel: usize,
                sums: Option<NonNull<f64>>,
            ) {
                // SAFETY: the caller answers for the instruction set and for all that the source
                // and the panels describe.
                unsafe { pack::<$lanes, $vectors>(source, to, panel, sums) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn strip(strip: &Strip<$number>) {
                // SAFETY: the caller answers for the instruction set and for all that the strip
                // describes.
                unsafe { self::strip::<$lanes, $height, $vectors>(strip) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn mirror(
                c: *mut $number,
                c_row: isize,
                rows: Range<usize>,
                outer: Option<NonNull<$number>>,
            ) {
                // SAFETY: the caller answers for the instruction set, the matrix and the vector.
                unsafe { self::mirror::<$lanes>(c, c_row, rows, outer) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn add_rows(
                x: *const $number,
                x_row: isize,
                shape: (usize, usize),
                weights: Along<$number>,
                sums: *mut f64,
            ) {
                // SAFETY: the caller answers for the matrix, the weights and the sums.
                unsafe { self::add_rows(x, x_row, shape, weights, sums) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn sum(
                x: *const $number,
                step: isize,
                count: usize,
                weights: Along<$number>,
            ) -> f64 {
                // SAFETY: the caller answers for the elements and the weights.
                unsafe { self::sum(x, step, count, weights) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m256d, __m512, __m512d};

    use super::*;

    kernel!(Avx512, f32, __m512, 8 x 3, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    kernel!(Avx512, f64, __m512d, 8 x 3, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    kernel!(Avx2, f32, __m256, 4 x 2, "avx2,fma");
    kernel!(Avx2, f64, __m256d, 4 x 2, "avx2,fma");
}
kernel!(Baseline, f32, Portable<f32, 4>, 4 x 2);
kernel!(Baseline, f64, Portable<f64, 2>, 4 x 2);

#[inline(always)]
unsafe fn pack<L: Lanes, const V: usize>(
    source: &Source<L::Scalar>,
    to: *mut L::Scalar,
    panel: usize,
    sums: Option<NonNull<f64>>,
) where
    L::Scalar: Number,
{
    // SAFETY: the caller answers for the source and the panels; `r` and `k` are within the source, for
    // so `pack_treated` calls.
    unsafe {
        match source.treatment {
            Treatment::Plain => pack_treated::<L, V>(source, to, panel, sums, |_, _, x| x),
            Treatment::CenterByRow { center, weights } => {
                pack_treated::<L, V>(source, to, panel, sums, |r, k, x| {
                    let center = along_lanes::<L>(center, r, source.rows);
                    let weight = L::splat(weights.at(k));
                    x.sub(center).mul(weight)
                })
            }
            Treatment::CenterByDepth { center, weights } => {
                pack_treated::<L, V>(source, to, panel, sums, |r, k, x| {
                    let center = L::splat(center.at(k));
                    let weight = along_lanes::<L>(weights, r, source.rows);
                    x.sub(center).mul(weight)
                })
            }
        }
    }
}

#[inline(always)]
unsafe fn along_lanes<L: Lanes>(vector: Along<L::Scalar>, r: usize, rows: usize) -> L {
    // SAFETY: the vector has `rows` entries, of which `r` is one, or is a constant.
    unsafe {
        if vector.step == 0 {
            L::splat(*vector.from)
        } else {
            load_at_most(vector.from.add(r), rows - r)
        }
    }
}

#[inline(always)]
unsafe fn load_at_most<L: Lanes>(from: *const L::Scalar, count: usize) -> L {
    // SAFETY: `from` is valid for `count` numbers, and no more than these are read.
    unsafe {
        if count >= L::COUNT {
            L::load(from)
        } else {
            L::load_first(from, count)
        }
    }
}

/// Rows of the source read together where they are the fast axis: enough to write whole runs, few
/// enough that the reads stay in step with the hardware prefetcher.
const ROWS_AT_ONCE: usize = 32;

#[inline(always)]
unsafe fn pack_treated<L: Lanes, const V: usize>(
    source: &Source<L::Scalar>,
    to: *mut L::Scalar,
    panel: usize,
    sums: Option<NonNull<f64>>,
    treat: impl Fn(usize, usize, L) -> L,
) where
    L::Scalar: Number,
{
    let width = V * L::COUNT;
    let (rows, depth) = (source.rows, source.depth);
    // SAFETY: it is called for elements of the source.
    let at = |r: usize, k: usize| unsafe {
        source
            .from
            .offset(r as isize * source.row + k as isize * source.step)
    };
    // SAFETY: it is called for elements of the source, which have their places in the panels.
    let place = |r: usize, k: usize| unsafe { to.add(r / width * panel + k * width + r % width) };
    // SAFETY: the processor has the instruction set.
    let none = unsafe { L::splat(L::Scalar::zero()) };
    // SAFETY: `lanes` has room for a register, and the sums are one a row.
    let add_sum = |r: usize, sum: L| unsafe {
        let Some(sums) = sums else {
            return;
        };
        let mut lanes = [L::Scalar::zero(); MOST_LANES];
        sum.store(lanes.as_mut_ptr());
        for (i, &lane) in lanes.iter().enumerate().take(L::COUNT.min(rows - r)) {
            *sums.add(r + i).as_ptr() += lane.into();
        }
    };
    // SAFETY: `r` and `k` are within the source, and of a register only lanes within are read. A panel
    // has `width` rows, a multiple of a register, so whole registers can be written.
    unsafe {
        if source.row == 1 {
            for start in (0..depth).step_by(ROWS_AT_ONCE) {
                for r in (0..rows).step_by(L::COUNT) {
                    let mut sum = none;
                    for k in start..depth.min(start + ROWS_AT_ONCE) {
                        let x = treat(r, k, load_at_most(at(r, k), rows - r));
                        x.store(place(r, k));
                        sum = sum.add(x);
                    }
                    add_sum(r, sum);
                }
            }
        } else if source.step == 1 {
            for r in (0..rows).step_by(L::COUNT) {
                let mut sum = none;
                for start in (0..depth).step_by(L::COUNT) {
                    let mut block = [none; MOST_LANES];
                    for (i, x) in block.iter_mut().enumerate().take(L::COUNT.min(rows - r)) {
                        *x = load_at_most(at(r + i, start), depth - start);
                    }
                    L::transpose(&mut block[..L::COUNT]);
                    for (i, &x) in block.iter().enumerate().take(L::COUNT.min(depth - start)) {
                        let x = treat(r, start + i, x);
                        x.store(place(r, start + i));
                        sum = sum.add(x);
                    }
                }
                add_sum(r, sum);
            }
        } else {
            for r in (0..rows).step_by(L::COUNT) {
                let mut sum = none;
                for k in 0..depth {
                    let mut gathered = [L::Scalar::zero(); MOST_LANES];
                    for (i, x) in gathered.iter_mut().enumerate().take(L::COUNT.min(rows - r)) {
                        *x = *at(r + i, k);
                    }
                    let x = treat(r, k, L::load(gathered.as_ptr()));
                    x.store(place(r, k));
                    sum = sum.add(x);
                }
                add_sum(r, sum);
            }
        }
    }
}

/// Lanes of the widest register.
const MOST_LANES: usize = 16;

#[inline(always)]
unsafe fn strip<L: Lanes, const M: usize, const V: usize>(strip: &Strip<L::Scalar>)
where
    L::Scalar: Number,
{
    let width = (V * L::COUNT) as isize;
    let packed = strip.a.row == 1 && strip.a.step == width && strip.b_step == width;
    // SAFETY: the caller answers for the strip; the steps are those of panels where `PACKED` says so.
    unsafe {
        if packed {
            strip_of::<L, M, V, true>(strip);
        } else {
            strip_of::<L, M, V, false>(strip);
        }
    }
}

/// `PACKED` strips lie in panels on both sides, so that the compiler knows all steps.
#[inline(always)]
unsafe fn strip_of<L: Lanes, const M: usize, const V: usize, const PACKED: bool>(
    strip: &Strip<L::Scalar>,
) where
    L::Scalar: Number,
{
    let last = strip.columns % L::COUNT;
    let vectors = strip.columns.div_ceil(L::COUNT);
    // SAFETY: the caller answers for the strip; `last` is the number of columns in its last register.
    unsafe {
        match (vectors, last == 0) {
            (1, true) => column_of_tiles::<L, M, V, 1, PACKED, false>(strip, 0),
            (1, false) => column_of_tiles::<L, M, V, 1, PACKED, true>(strip, last),
            (2, true) => column_of_tiles::<L, M, V, 2, PACKED, false>(strip, 0),
            (2, false) => column_of_tiles::<L, M, V, 2, PACKED, true>(strip, last),
            (3, true) if V > 2 => column_of_tiles::<L, M, V, 3, PACKED, false>(strip, 0),
            (3, false) if V > 2 => column_of_tiles::<L, M, V, 3, PACKED, true>(strip, last),
            _ => debug_assert!(false, "{vectors} vectors in a strip"),
        }
    }
}

#[inline(always)]
unsafe fn column_of_tiles<
    L: Lanes,
    const M: usize,
    const V: usize,
    const U: usize,
    const PACKED: bool,
    const PARTIAL: bool,
>(
    strip: &Strip<L::Scalar>,
    last: usize,
) where
    L::Scalar: Number,
{
    let mut row = 0;
    // SAFETY: every tile begins at `row` and ends within the rows of the strip.
    unsafe {
        while strip.rows - row >= M {
            tile::<L, M, V, U, PACKED, PARTIAL>(strip, row, last);
            row += M;
        }
        if M > 4 && strip.rows - row >= 4 {
            tile::<L, 4, V, U, PACKED, PARTIAL>(strip, row, last);
            row += 4;
        }
        if strip.rows - row >= 2 {
            tile::<L, 2, V, U, PACKED, PARTIAL>(strip, row, last);
            row += 2;
        }
        if strip.rows - row == 1 {
            tile::<L, 1, V, U, PACKED, PARTIAL>(strip, row, last);
        }
    }
}

/// Depth from which a tile takes long enough to have its part of the result fetched meanwhile.
const DEEP: usize = 64;

/// Asks for the line of the cache that holds `at`, so that it is there when the tile is done.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is a hint, for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `M` rows by `U` registers of the product, held in registers over the whole depth.
#[inline(always)]
unsafe fn tile<
    L: Lanes,
    const M: usize,
    const V: usize,
    const U: usize,
    const PACKED: bool,
    const PARTIAL: bool,
>(
    strip: &Strip<L::Scalar>,
    row: usize,
    last: usize,
) where
    L::Scalar: Number,
{
    // SAFETY: the tile is within the strip, all elements of which can be read, those of `C` also
    // written; of the last register only `last` lanes are, if it is partial. A tile does not cross a
    // group of the left factor, for `M` divides `width` and tiles follow each other.
    unsafe {
        let zero = L::Scalar::zero();
        let mut sums = [[L::splat(zero); U]; M];
        let width = V * L::COUNT;
        let group = strip.a.group;
        let (a_row, a_step, b_step) = if PACKED {
            (1, width as isize, width as isize)
        } else {
            (strip.a.row, strip.a.step, strip.b_step)
        };
        if strip.depth >= DEEP {
            for i in 0..M {
                let c = strip.c.wrapping_offset((row + i) as isize * strip.c_row);
                for v in 0..U {
                    prefetch(c.wrapping_add(v * L::COUNT));
                }
                prefetch(c.wrapping_add(U * L::COUNT - 1));
            }
        }
        let mut a = strip
            .a
            .from
            .offset((row / width) as isize * group + (row % width) as isize * a_row);
        let mut b = strip.b;
        for _ in 0..strip.depth {
            let mut right = [L::splat(zero); U];
            for (v, right) in right.iter_mut().enumerate() {
                *right = if PARTIAL && v == U - 1 {
                    L::load_first(b.add(v * L::COUNT), last)
                } else {
                    L::load(b.add(v * L::COUNT))
                };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = L::splat(*a.offset(i as isize * a_row));
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = left.mul_add(right, *sum);
                }
            }
            a = a.offset(a_step);
            b = b.offset(b_step);
        }
        let alpha = L::splat(strip.alpha);
        let beta = L::splat(strip.beta);
        for (i, sums) in sums.iter().enumerate() {
            let c = strip.c.offset((row + i) as isize * strip.c_row);
            for (v, &sum) in sums.iter().enumerate() {
                let c = c.add(v * L::COUNT);
                let partial = PARTIAL && v == U - 1;
                let mut result = sum.mul(alpha);
                if strip.beta != zero {
                    let before = if partial {
                        L::load_first(c, last)
                    } else {
                        L::load(c)
                    };
                    result = sum.mul_add(alpha, before.mul(beta));
                }
                if partial {
                    result.store_first(c, last);
                } else {
                    result.store(c);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn mirror<L: Lanes>(
    c: *mut L::Scalar,
    c_row: isize,
    rows: Range<usize>,
    outer: Option<NonNull<L::Scalar>>,
) where
    L::Scalar: Number,
{
    // SAFETY: it is called for elements of the matrix.
    let at = |i: usize, j: usize| unsafe { c.offset(i as isize * c_row).add(j) };
    for i in rows.clone().step_by(L::COUNT) {
        let height = L::COUNT.min(rows.end - i);
        for j in (0..i).step_by(L::COUNT) {
            // SAFETY: the block is below the diagonal, so its `height` rows of a whole register are
            // within the matrix, and so is its image; `outer` has an entry a row.
            unsafe {
                let mut block = [L::splat(L::Scalar::zero()); MOST_LANES];
                for (k, row) in block.iter_mut().enumerate().take(height) {
                    *row = L::load(at(i + k, j));
                    if let Some(outer) = outer {
                        let left = L::splat(-*outer.add(i + k).as_ptr());
                        *row = left.mul_add(L::load(outer.add(j).as_ptr()), *row);
                        row.store(at(i + k, j));
                    }
                }
                L::transpose(&mut block[..L::COUNT]);
                for (k, row) in block.iter().enumerate().take(L::COUNT) {
                    if height == L::COUNT {
                        row.store(at(j + k, i));
                    } else {
                        row.store_first(at(j + k, i), height);
                    }
                }
            }
        }
        if let Some(outer) = outer {
            // SAFETY: the block on the diagonal has `height` rows and columns within the matrix.
            unsafe {
                let right = L::load_first(outer.add(i).as_ptr(), height);
                for k in i..i + height {
                    let row = L::load_first(at(k, i), height);
                    let left = L::splat(-*outer.add(k).as_ptr());
                    left.mul_add(right, row).store_first(at(k, i), height);
                }
            }
        }
    }
}

/// Sums kept in registers at a time.
const SUMS: usize = 32;

#[inline(always)]
unsafe fn add_rows<T: Number>(
    x: *const T,
    x_row: isize,
    (rows, columns): (usize, usize),
    weights: Along<T>,
    sums: *mut f64,
) {
    let whole = columns - columns % SUMS;
    // SAFETY: the caller answers for `rows` by `columns` elements, a weight a row and a sum a column;
    // `first + SUMS` is at most `columns`.
    unsafe {
        for first in (0..whole).step_by(SUMS) {
            let mut kept = sums.add(first).cast::<[f64; SUMS]>().read();
            for i in 0..rows {
                let weight: f64 = weights.at(i).into();
                let row = x.offset(i as isize * x_row).add(first);
                let row = row.cast::<[T; SUMS]>().read_unaligned();
                for (sum, x) in kept.iter_mut().zip(row) {
                    *sum += weight * x.into();
                }
            }
            sums.add(first).cast::<[f64; SUMS]>().write(kept);
        }
        for j in whole..columns {
            for i in 0..rows {
                *sums.add(j) +=
                    weights.at(i).into() * (*x.offset(i as isize * x_row).add(j)).into();
            }
        }
    }
}

#[inline(always)]
unsafe fn sum<T: Number>(x: *const T, step: isize, count: usize, weights: Along<T>) -> f64 {
    let mut sums = [0.0; SUMS];
    let whole = count - count % SUMS;
    // SAFETY: the caller answers for `count` elements and weights; `first + SUMS` is at most `count`.
    unsafe {
        for first in (0..whole).step_by(SUMS) {
            let x = x.offset(first as isize * step);
            let x: [T; SUMS] = if step == 1 {
                x.cast::<[T; SUMS]>().read_unaligned()
            } else {
                std::array::from_fn(|i| *x.offset(i as isize * step))
            };
            for (i, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
                *sum += weights.at(first + i).into() * x.into();
            }
        }
        for (i, sum) in (whole..count).zip(&mut sums) {
            *sum += weights.at(i).into() * (*x.offset(i as isize * step)).into();
        }
    }
    sums.iter().sum()
}
