//! Cache blocking, packing and the split between threads, for any kernel.
//!
//! The depth is cut into passes. In each pass the right factor is packed into panels that lie in
//! memory in the order in which the kernel reads them; then blocks of rows of the result take up
//! their share of the product. A symmetric product packs its one factor once and uses the panels on
//! both sides. Where a factor is read so seldom, or lies so well, that packing does not pay, the
//! kernel reads it where it is. Passes depend on the depth alone and threads share nothing but whole
//! blocks, so the result is the same to the last bit however many threads there are.

use std::ops::Range;

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

/// Depth of a pass: a panel fills most of a first-level cache of 48 KiB.
const DEPTH: usize = 256;

/// Rows of a block: with `DEPTH`, a block of the left factor stays in the second-level cache.
const ROWS: usize = 128;

/// Blocks that each thread should have to choose from, so that all finish together.
const BLOCKS_A_THREAD: usize = 6;

/// Depth handed out at a time when the right factor is packed.
const PACKED_AT_ONCE: usize = 32;

/// Bytes between consecutive depths of a left factor up to which it is read in place.
const NEAR: usize = 2048;

/// Multiply-adds that pay for waking other threads.
pub(crate) const WORTH_THREADS: usize = 1 << 23;

/// # Safety
///
/// The processor has the instruction set of `K`. The factors can be read and `C` written everywhere
/// their extents and steps reach, and `C` overlaps neither factor.
pub(crate) unsafe fn multiply<K: Kernel>(product: &Product<K::Number>) {
    let columns = product.b.as_ref().unwrap_or(&product.a).rows;
    let full = product
        .a
        .rows
        .saturating_mul(columns)
        .saturating_mul(product.a.depth);
    let work = if product.b.is_some() { full } else { full / 2 };
    unsafe { multiply_on::<K>(product, threads_for(work, WORTH_THREADS)) }
}

/// [`multiply`] on a given number of threads.
///
/// # Safety
///
/// As for [`multiply`].
pub(crate) unsafe fn multiply_on<K: Kernel>(product: &Product<K::Number>, threads: usize) {
    let Product { a, b, alpha, .. } = product;
    let right = b.as_ref().unwrap_or(a);
    let (rows, columns, depth) = (a.rows, right.rows, a.depth);
    if rows == 0 || columns == 0 {
        return;
    }
    if depth == 0 || alpha.is_zero() {
        return unsafe { scale(product, columns) };
    }
    let symmetric = b.is_none();
    let pass = depth.div_ceil(depth.div_ceil(DEPTH));
    let block = if threads == 1 {
        ROWS
    } else {
        let share = rows.div_ceil(threads * BLOCKS_A_THREAD);
        share.next_multiple_of(K::WIDTH).min(ROWS)
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
        block.min(rows.next_multiple_of(K::WIDTH)) * pass
    };
    with_workspace(right_length + threads * left_length, |workspace| {
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
        };
        in_pool(threads, || unsafe { plan.run() });
    });
}

/// `C ← β C`
unsafe fn scale<T: Number>(product: &Product<T>, columns: usize) {
    let &Product { beta, c, c_row, .. } = product;
    for i in 0..product.a.rows {
        for j in 0..columns {
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
    /// Rows of a block, the last one excepted; a multiple of `WIDTH`.
    block: usize,
    left_in_place: bool,
    right_in_place: bool,
    /// Where the whole right factor is packed in each pass.
    right_panels: *mut K::Number,
    /// Where each worker packs its block of the left factor.
    left_panels: *mut K::Number,
    left_length: usize,
}

// SAFETY: the factors are only read. Tasks write disjoint blocks of `C` and of the right panels, and
// each worker has left panels of its own.
unsafe impl<K: Kernel> Sync for Plan<'_, K> {}

impl<K: Kernel> Plan<'_, K> {
    unsafe fn run(&self) {
        let (rows, columns) = (self.product.a.rows, self.right.rows);
        let depth = self.product.a.depth;
        let blocks = rows.div_ceil(self.block);
        // Few blocks of rows are cut into groups of columns as well.
        let groups = if self.symmetric || self.threads == 1 {
            1
        } else {
            (self.threads * BLOCKS_A_THREAD).div_ceil(blocks)
        };
        let group = columns.div_ceil(groups).next_multiple_of(K::WIDTH);
        let groups = columns.div_ceil(group);
        for start in (0..depth).step_by(self.pass) {
            let deep = self.pass.min(depth - start);
            if !self.right_in_place {
                self.pack_right(start, deep);
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
            // SAFETY: the panels hold `WIDTH * pass` numbers for each `WIDTH` columns.
            unsafe {
                let to = self.right_panels.add(first * K::WIDTH);
                let source = self.right.part((0, self.right.rows), part);
                K::pack(&source, to, depth * K::WIDTH);
            }
        });
    }

    unsafe fn multiply_block(&self, share: &Share, columns: Range<usize>, worker: usize) {
        let a = &self.product.a;
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
                K::pack(&source, to, share.depth * K::WIDTH);
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
                K::mirror(self.product.c, self.product.c_row, share.first..end);
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
