//! Cache blocking, packing and the split between threads, for any kernel.
//!
//! The depth is cut into passes. In each pass the right factor is packed into panels that lie in
//! memory in the order in which the kernel reads them; then blocks of rows of the result take up
//! their share of the product. A symmetric product packs its one factor once and uses the panels on
//! both sides. Where a factor is read so seldom, or lies so well, that packing does not pay, the
//! kernel reads it where it is. Passes depend on the depth alone and threads share nothing but whole
//! blocks, so the result is the same to the last bit however many threads there are.

use std::ops::Range;
use std::ptr::NonNull;

use num_traits::{One, Zero};

use crate::kernel::{Kernel, Left, Number, Source, Strip, Treatment};
use crate::threads::{for_each_task, in_pool, threads_for};
use crate::workspace::with_workspace;

/// `C ← α A B + β C` as memory, with unit steps along the rows of `C`.
#[derive(Clone, Copy)]
pub(crate) struct Product<T> {
    pub alpha: T,
    pub a: Source<T>,
    /// The right factor, transposed. None stands for the transpose of `a`, and `C` is symmetric.
    pub b: Option<Source<T>>,
    pub beta: T,
    pub c: *mut T,
    pub c_row: isize,
}

/// Depth of a pass: few passes over the result, and panels that stay in the caches close by.
const DEPTH: usize = 384;

/// Rows of a block, a multiple of every `WIDTH`: with `DEPTH`, a block of the left factor and a panel
/// of the right one stay in the second-level cache.
const ROWS: usize = 192;

/// Blocks that each thread should have to choose from, so that all finish together.
const BLOCKS_A_THREAD: usize = 6;

/// Depth handed out at a time when the right factor is packed.
const PACKED_AT_ONCE: usize = 32;

/// Numbers, of any type, that fill whole lines of the cache.
const LINE: usize = 16;

/// Bytes between consecutive depths of a left factor up to which it is read in place.
const NEAR: usize = 2048;

/// Multiply-adds that pay for waking other threads.
pub(crate) const WORTH_THREADS: usize = 1 << 23;

/// Computes the product. `centers`, if given, are the ones that `a`, the one factor of a symmetric
/// product, subtracts from its rows, and lie near the means of these. The rows are then summed while
/// they are packed, the centres moved onto the means, and what their distance added is taken off the
/// product. False if a centre was so far off that the result has lost digits; all means are right
/// then too.
///
/// # Safety
///
/// The processor has the instruction set of `K`. The factors can be read and `C` written everywhere
/// their extents and steps reach, and `C` overlaps neither factor. There are as many centres as rows
/// of `a`, and they can be written.
pub(crate) unsafe fn multiply<K: Kernel>(
    product: &Product<K::Number>,
    centers: Option<NonNull<K::Number>>,
) -> bool {
    let Product { a, b, alpha, .. } = product;
    let right = b.as_ref().unwrap_or(a);
    let (rows, columns, depth) = (a.rows, right.rows, a.depth);
    if rows == 0 || columns == 0 {
        return true;
    }
    if depth == 0 || alpha.is_zero() {
        // SAFETY: `C` can be written, as the caller says.
        unsafe { scale(product, columns) };
        return true;
    }
    let symmetric = b.is_none();
    let full = rows.saturating_mul(columns).saturating_mul(depth);
    let threads = threads_for(if symmetric { full / 2 } else { full }, WORTH_THREADS);
    let pass = depth.div_ceil(depth.div_ceil(DEPTH));
    let block = if threads == 1 {
        ROWS
    } else {
        let share = rows.div_ceil(threads * BLOCKS_A_THREAD).max(K::WIDTH);
        // Blocks of a symmetric product begin with a panel of the factor that both sides share.
        let unit = if symmetric { K::WIDTH } else { K::HEIGHT };
        share.next_multiple_of(unit).min(ROWS)
    };
    let plain = |source: &Source<K::Number>| matches!(source.treatment, Treatment::Plain);
    let near = a.step.unsigned_abs() * size_of::<K::Number>() <= NEAR;
    let left_in_place =
        !symmetric && plain(a) && (a.step == 1 || (a.row == 1 && near) || columns <= K::WIDTH);
    let right_in_place = !symmetric && plain(right) && right.row == 1 && rows <= ROWS;
    let right_length = if right_in_place {
        0
    } else {
        columns.next_multiple_of(K::WIDTH) * pass
    };
    let left_length = if symmetric || left_in_place {
        0
    } else {
        block.min(rows).next_multiple_of(K::WIDTH) * pass
    };
    let stride = match centers {
        Some(_) => columns.next_multiple_of(LINE),
        None => 0,
    };
    let parts = pass.div_ceil(PACKED_AT_ONCE);
    let sums_length = stride * parts * size_of::<f64>() / size_of::<K::Number>();
    let panels = right_length + threads * left_length;
    with_workspace(
        sums_length + stride + panels,
        |workspace: *mut K::Number| {
            let sums = workspace.cast();
            // SAFETY: the workspace is that long; `LINE` numbers fill whole lines of the cache.
            let (offsets, workspace) = unsafe {
                let offsets = workspace.add(sums_length);
                (offsets, offsets.add(stride))
            };
            let plan = Plan::<K> {
                product,
                right,
                symmetric,
                threads,
                pass,
                block,
                left_in_place,
                right_in_place,
                right_panels: workspace,
                // SAFETY: the workspace is at least that long.
                left_panels: unsafe { workspace.add(right_length) },
                left_length,
                centering: centers
                    .zip(NonNull::new(sums))
                    .zip(NonNull::new(offsets))
                    .map(|((centers, sums), offsets)| Centering {
                        centers,
                        columns,
                        stride,
                        parts,
                        sums,
                        offsets,
                    }),
            };
            if let Some(centering) = &plan.centering {
                // SAFETY: the workspace holds the sums and the offsets, and nobody reads them yet.
                unsafe { centering.clear() };
            }
            // SAFETY: the caller answers for the product; the workspace was measured for this plan.
            in_pool(threads, || unsafe { plan.run() });
            match &plan.centering {
                // SAFETY: the plan has ended: nobody reads the centres, and the offsets are set.
                Some(centering) => unsafe { centering.move_centers(product) },
                None => true,
            }
        },
    )
}

/// `C ← β C`
///
/// # Safety
///
/// `C [a.rows, columns]` can be read and written.
unsafe fn scale<T: Number>(product: &Product<T>, columns: usize) {
    let &Product { beta, c, c_row, .. } = product;
    for i in 0..product.a.rows {
        for j in 0..columns {
            // SAFETY: `(i, j)` is an index of `C`.
            unsafe {
                let c = c.offset(i as isize * c_row).add(j);
                *c = if beta.is_zero() { beta } else { beta * *c };
            }
        }
    }
}

struct Plan<'a, K: Kernel> {
    product: &'a Product<K::Number>,
    /// The right factor, transposed.
    right: &'a Source<K::Number>,
    symmetric: bool,
    threads: usize,
    /// Depth of a pass, the last one excepted.
    pass: usize,
    /// Rows of a block, the last one excepted; a multiple of `HEIGHT`, and of `WIDTH` in a symmetric
    /// product.
    block: usize,
    left_in_place: bool,
    right_in_place: bool,
    /// Where the whole right factor is packed in each pass.
    right_panels: *mut K::Number,
    /// Where each worker packs its block of the left factor.
    left_panels: *mut K::Number,
    left_length: usize,
    centering: Option<Centering<K::Number>>,
}

/// The sums of centred rows, by which the centres are off the means.
struct Centering<T> {
    centers: NonNull<T>,
    columns: usize,
    /// Numbers from the sums of one part to those of the next.
    stride: usize,
    /// Parts of a pass, which are packed one at a time.
    parts: usize,
    /// The sums of each part, over all passes.
    sums: NonNull<f64>,
    /// `√(α / depth)` times the sum of each row.
    offsets: NonNull<T>,
}

/// # Safety
///
/// Each method needs sums of `parts * stride` numbers, offsets of `stride` and centres of `columns`,
/// which no other thread uses meanwhile.
impl<T: Number> Centering<T> {
    unsafe fn clear(&self) {
        // SAFETY: these are all sums and all offsets.
        unsafe {
            self.sums.write_bytes(0, self.parts * self.stride);
            self.offsets.write_bytes(0, self.stride);
        }
    }

    /// Sets the offsets once all is packed. Sums are added in the order of the parts, whichever
    /// threads packed them.
    unsafe fn set_offsets(&self, product: &Product<T>) {
        let scale = (product.alpha.into() / product.a.depth as f64).sqrt();
        for column in 0..self.columns {
            // SAFETY: `column` is below `stride`, and every sum was cleared first.
            unsafe {
                let part = |part: usize| *self.sums.add(part * self.stride + column).as_ptr();
                let sum: f64 = (0..self.parts).map(part).sum();
                self.offsets.add(column).write(T::from_f64(scale * sum));
            }
        }
    }

    /// Moves the centres onto the means. False if an offset exceeds what it leaves of a variance.
    unsafe fn move_centers(&self, product: &Product<T>) -> bool {
        let scale = (product.alpha.into() * product.a.depth as f64).sqrt();
        let mut near = true;
        for column in 0..self.columns {
            // SAFETY: there are `columns` offsets and centres, and `C` is as large a square.
            unsafe {
                let offset: f64 = self.offsets.add(column).read().into();
                let center = self.centers.add(column);
                center.write(T::from_f64(center.read().into() + offset / scale));
                let variance = *product
                    .c
                    .offset(column as isize * product.c_row)
                    .add(column);
                near &= offset * offset <= variance.into();
            }
        }
        near
    }
}

// SAFETY: the factors are only read. Tasks write disjoint blocks of `C` and of the right panels, and
// each worker has left panels of its own.
unsafe impl<K: Kernel> Sync for Plan<'_, K> {}

/// # Safety
///
/// Every method needs what [`multiply`] does, and panels as large as the fields say. A share lies within
/// the product, and no other thread is at work on its rows and columns of `C`.
impl<K: Kernel> Plan<'_, K> {
    unsafe fn run(&self) {
        let (rows, columns) = (self.product.a.rows, self.right.rows);
        let depth = self.product.a.depth;
        let blocks = rows.div_ceil(self.block);
        // Few blocks of rows are cut into groups of columns as well, each of which packs the left
        // factor again.
        let wanted = self.threads * BLOCKS_A_THREAD;
        let groups = if self.symmetric || self.threads == 1 || 2 * blocks >= wanted {
            1
        } else {
            wanted.div_ceil(blocks)
        };
        let group = columns.div_ceil(groups).next_multiple_of(K::WIDTH);
        let groups = columns.div_ceil(group);
        for start in (0..depth).step_by(self.pass) {
            let deep = self.pass.min(depth - start);
            if !self.right_in_place {
                self.pack_right(start, deep);
            }
            let last = start + deep == depth;
            if let (true, Some(centering)) = (last, &self.centering) {
                // SAFETY: the last pass is packed, and no task of it has begun.
                unsafe { centering.set_offsets(self.product) };
            }
            for_each_task(self.threads, blocks * groups, |task, worker| {
                let (index, group_index) = (task / groups, task % groups);
                // The blocks of a triangle grow downwards, and the largest are best begun first.
                let index = if self.symmetric {
                    blocks - 1 - index
                } else {
                    index
                };
                let first = index * self.block;
                let share = Share {
                    first,
                    rows: self.block.min(rows - first),
                    start,
                    depth: deep,
                };
                // SAFETY: the task alone has these rows and columns of `C`, and the worker these panels.
                unsafe {
                    if self.symmetric {
                        self.multiply_triangle(&share);
                    } else {
                        let first = group_index * group;
                        self.multiply_block(&share, first..columns.min(first + group), worker);
                    }
                }
            });
        }
    }

    fn pack_right(&self, start: usize, depth: usize) {
        for_each_task(self.threads, depth.div_ceil(PACKED_AT_ONCE), |task, _| {
            let first = task * PACKED_AT_ONCE;
            let part = (start + first, PACKED_AT_ONCE.min(depth - first));
            // SAFETY: the panels hold `WIDTH * pass` numbers for each `WIDTH` columns, the sums a row a
            // part; no other task has this part.
            unsafe {
                let to = self.right_panels.add(first * K::WIDTH);
                let source = self.right.part((0, self.right.rows), part);
                let sums = self
                    .centering
                    .as_ref()
                    .map(|centering| centering.sums.add(task * centering.stride));
                K::pack(&source, to, depth * K::WIDTH, sums);
            }
        });
    }

    unsafe fn multiply_block(&self, share: &Share, columns: Range<usize>, worker: usize) {
        let a = &self.product.a;
        // SAFETY: the share is within the factor, and the worker's panels hold a whole block.
        unsafe {
            let left = if self.left_in_place {
                Left {
                    from: a
                        .from
                        .offset(share.first as isize * a.row + share.start as isize * a.step),
                    group: K::WIDTH as isize * a.row,
                    row: a.row,
                    step: a.step,
                }
            } else {
                let to = self.left_panels.add(worker * self.left_length);
                let source = a.part((share.first, share.rows), (share.start, share.depth));
                K::pack(&source, to, share.depth * K::WIDTH, None);
                share.panels::<K>(to)
            };
            let rows = share.first..share.first + share.rows;
            for column in columns.clone().step_by(K::WIDTH) {
                let width = K::WIDTH.min(columns.end - column);
                self.multiply_strip(share, left, rows.clone(), column..column + width);
            }
        }
    }

    unsafe fn multiply_triangle(&self, share: &Share) {
        let end = share.first + share.rows;
        // SAFETY: the panels hold every row of the one factor, and a block begins with a panel, for it
        // is a multiple of `WIDTH`. Rows and columns are below `end`. The mirror images of a block are
        // written by no other task.
        unsafe {
            let panel = share.depth * K::WIDTH;
            let left = share.panels::<K>(self.right_panels.add(share.first / K::WIDTH * panel));
            for column in (0..share.first).step_by(K::WIDTH) {
                let columns = column..column + K::WIDTH;
                self.multiply_strip(share, left, share.first..end, columns);
            }
            // On the diagonal, registers that lie wholly above it are left out.
            let step = K::LANES.max(K::HEIGHT);
            for column in (share.first..end).step_by(K::WIDTH) {
                let below = end.min(column + K::WIDTH);
                for row in (column..below).step_by(step) {
                    let row_end = below.min(row + step);
                    self.multiply_strip(share, left, row..row_end, column..row_end);
                }
                if below < end {
                    self.multiply_strip(share, left, below..end, column..below);
                }
            }
            if share.start + share.depth == self.product.a.depth {
                let outer = self.centering.as_ref().map(|centering| centering.offsets);
                K::mirror(self.product.c, self.product.c_row, share.first..end, outer);
            }
        }
    }

    /// The product of some rows of a share with at most one panel of columns.
    unsafe fn multiply_strip(
        &self,
        share: &Share,
        left: Left<K::Number>,
        rows: Range<usize>,
        columns: Range<usize>,
    ) {
        let &Product {
            alpha,
            beta,
            c,
            c_row,
            ..
        } = self.product;
        let width = K::WIDTH as isize;
        let skipped = (rows.start - share.first) as isize;
        // SAFETY: `rows` are of the share, `columns` within `C` and within one panel; a factor that was
        // packed is read from its panels, one that was not where it lies.
        unsafe {
            let (b, b_step) = if self.right_in_place {
                let step = self.right.step;
                let from = self.right.from.offset(share.start as isize * step);
                (from.add(columns.start), step)
            } else {
                let panel = columns.start / K::WIDTH * (share.depth * K::WIDTH);
                (self.right_panels.add(panel).cast_const(), width)
            };
            K::strip(&Strip {
                rows: rows.len(),
                columns: columns.len(),
                depth: share.depth,
                a: Left {
                    from: left
                        .from
                        .offset(skipped / width * left.group + skipped % width * left.row),
                    ..left
                },
                b,
                b_step,
                c: c.offset(rows.start as isize * c_row).add(columns.start),
                c_row,
                alpha,
                beta: if share.start == 0 {
                    beta
                } else {
                    K::Number::one()
                },
            });
        }
    }
}

/// A block of rows in a pass.
struct Share {
    first: usize,
    rows: usize,
    start: usize,
    depth: usize,
}

impl Share {
    /// The block where it was packed.
    fn panels<K: Kernel>(&self, from: *const K::Number) -> Left<K::Number> {
        Left {
            from,
            group: (self.depth * K::WIDTH) as isize,
            row: 1,
            step: K::WIDTH as isize,
        }
    }
}
