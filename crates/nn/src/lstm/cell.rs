//! One layer in one direction, on the packed layout.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use modalign_core::{Scalar, check_shape};
use modalign_linalg::gemm;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewD, ArrayViewMut2, ArrayViewMutD, Axis, s};
use rand::Rng;

use super::packing::Packing;
use crate::NnError;
use crate::init::uniform;
use crate::lanes::{LANES, Lanes, load, sigmoid, store, tanh};
use crate::memory::resized;
use crate::simd::vectorized;

/// The weights of one layer in one direction; the four gates i, f, g, o one after the other.
#[derive(Debug)]
pub(super) struct Cell<A> {
    /// `[4H, D]`.
    pub(super) weight_ih: Array2<A>,
    /// `[4H, H]`.
    pub(super) weight_hh: Array2<A>,
    /// `[4H]`.
    pub(super) bias_ih: Array1<A>,
    /// `[4H]`.
    pub(super) bias_hh: Array1<A>,
    /// Tapes that are not in use, kept so that a training step need not ask the system for their
    /// memory again.
    spare: Mutex<Vec<Tape<A>>>,
}

impl<A: Clone> Clone for Cell<A> {
    fn clone(&self) -> Self {
        Self {
            weight_ih: self.weight_ih.clone(),
            weight_hh: self.weight_hh.clone(),
            bias_ih: self.bias_ih.clone(),
            bias_hh: self.bias_hh.clone(),
            spare: Mutex::default(),
        }
    }
}

impl<A: PartialEq> PartialEq for Cell<A> {
    fn eq(&self, other: &Self) -> bool {
        self.weight_ih == other.weight_ih
            && self.weight_hh == other.weight_hh
            && self.bias_ih == other.bias_ih
            && self.bias_hh == other.bias_hh
    }
}

/// The hidden and the cell state of every row, `[B, H]` each, in the sorted order; or the gradient
/// in them.
#[derive(Debug, Clone, Default)]
pub(super) struct CellState<A> {
    pub(super) h: Array2<A>,
    pub(super) c: Array2<A>,
}

/// What the backward pass of a [`Cell`] needs beside its input, all in the packed layout.
#[derive(Debug, Default)]
pub(super) struct Tape<A> {
    /// i, f, g, o `[P, 4H]`.
    gates: Array2<A>,
    /// The state each step started from, `[P, H]`.
    previous_h: Array2<A>,
    previous_c: Array2<A>,
    /// `[P, H]`.
    tanh_c: Array2<A>,
    /// Whether the first step started from a given state.
    given: bool,
    /// The sum of both biases, `[1, 4H]`.
    bias: Array2<A>,
    /// The recurrent weights as a product with a few rows reads them fastest, `[H, 4H]`.
    recurrent: Array2<A>,
}

/// Lines of a forward pass.
struct Lines<'a, A> {
    gates: ArrayViewMut2<'a, A>,
    /// What the backward pass needs: `previous_h`, `previous_c` and `tanh_c`.
    record: Option<[ArrayViewMut2<'a, A>; 3]>,
    hidden: Option<ArrayViewMut2<'a, A>>,
}

/// Lines of a backward pass.
struct LinesBack<'a, A> {
    gates: ArrayViewMut2<'a, A>,
    tanh_c: ArrayView2<'a, A>,
    previous_c: ArrayView2<'a, A>,
    dhidden: Option<ArrayView2<'a, A>>,
}

impl<A> Lines<'_, A> {
    /// The first `count` lines and the others.
    fn split_at(self, count: usize) -> (Self, Self) {
        let (gates, other_gates) = self.gates.split_at(Axis(0), count);
        let (record, other_record) = match self.record {
            Some(record) => {
                let [h, c, tanh_c] = record.map(|array| array.split_at(Axis(0), count));
                (Some([h.0, c.0, tanh_c.0]), Some([h.1, c.1, tanh_c.1]))
            }
            None => (None, None),
        };
        let hidden = self.hidden.map(|hidden| hidden.split_at(Axis(0), count));
        let (hidden, other_hidden) = hidden.unzip();
        (
            Self {
                gates,
                record,
                hidden,
            },
            Self {
                gates: other_gates,
                record: other_record,
                hidden: other_hidden,
            },
        )
    }
}

impl<A> LinesBack<'_, A> {
    /// The first `count` lines and the others.
    fn split_at(self, count: usize) -> (Self, Self) {
        let (gates, other_gates) = self.gates.split_at(Axis(0), count);
        let (tanh_c, other_tanh_c) = self.tanh_c.split_at(Axis(0), count);
        let (previous_c, other_previous_c) = self.previous_c.split_at(Axis(0), count);
        let dhidden = self.dhidden.map(|dhidden| dhidden.split_at(Axis(0), count));
        let (dhidden, other_dhidden) = dhidden.unzip();
        (
            Self {
                gates,
                tanh_c,
                previous_c,
                dhidden,
            },
            Self {
                gates: other_gates,
                tanh_c: other_tanh_c,
                previous_c: other_previous_c,
                dhidden: other_dhidden,
            },
        )
    }
}

/// Multiply-adds of the recurrent products of a pass that pay for waking a second thread.
const WORTH_THREADS: usize = 1 << 20;

impl<A: Scalar> Cell<A> {
    pub(super) fn new(input_size: usize, hidden_size: usize, rng: &mut impl Rng) -> Self {
        let bound = 1.0 / (hidden_size as f64).sqrt();
        Self {
            weight_ih: uniform((4 * hidden_size, input_size), bound, rng),
            weight_hh: uniform((4 * hidden_size, hidden_size), bound, rng),
            bias_ih: uniform(4 * hidden_size, bound, rng),
            bias_hh: uniform(4 * hidden_size, bound, rng),
            spare: Mutex::default(),
        }
    }

    pub(super) fn views(&self) -> [(&'static str, ArrayViewD<'_, A>); 4] {
        [
            ("weight_ih", self.weight_ih.view().into_dyn()),
            ("weight_hh", self.weight_hh.view().into_dyn()),
            ("bias_ih", self.bias_ih.view().into_dyn()),
            ("bias_hh", self.bias_hh.view().into_dyn()),
        ]
    }

    pub(super) fn views_mut(&mut self) -> [(&'static str, ArrayViewMutD<'_, A>); 4] {
        [
            ("weight_ih", self.weight_ih.view_mut().into_dyn()),
            ("weight_hh", self.weight_hh.view_mut().into_dyn()),
            ("bias_ih", self.bias_ih.view_mut().into_dyn()),
            ("bias_hh", self.bias_hh.view_mut().into_dyn()),
        ]
    }

    pub(super) fn zeros_like(&self) -> Self {
        Self {
            weight_ih: Array2::zeros(self.weight_ih.raw_dim()),
            weight_hh: Array2::zeros(self.weight_hh.raw_dim()),
            bias_ih: Array1::zeros(self.bias_ih.raw_dim()),
            bias_hh: Array1::zeros(self.bias_hh.raw_dim()),
            spare: Mutex::default(),
        }
    }

    pub(super) fn input_size(&self) -> usize {
        self.weight_ih.ncols()
    }

    pub(super) fn hidden_size(&self) -> usize {
        self.weight_hh.ncols()
    }

    /// A tape for so many lines, whose entries are yet to be written; without room for what only the
    /// backward pass needs unless `record` is set.
    fn take_tape(&self, lines: usize, record: bool) -> Tape<A> {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let spare = spare.unwrap_or_default();
        let (size, recorded) = (self.hidden_size(), if record { lines } else { 0 });
        Tape {
            gates: resized(spare.gates, lines, 4 * size),
            previous_h: resized(spare.previous_h, recorded, size),
            previous_c: resized(spare.previous_c, recorded, size),
            tanh_c: resized(spare.tanh_c, recorded, size),
            given: false,
            bias: resized(spare.bias, 1, 4 * size),
            recurrent: resized(spare.recurrent, size, 4 * size),
        }
    }

    /// Keeps the memory of a tape that has served.
    pub(super) fn give_tape(&self, tape: Tape<A>) {
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(tape);
    }

    /// Runs over all steps of `input [P, D]` and leaves in `state` that of every row after its last
    /// step. `given` tells that `state` is not zero at first. The hidden states of all steps go to
    /// `hidden [P, H]` if it is there; the tape comes back empty unless `record` is set.
    pub(super) fn run(
        &self,
        packing: &Packing,
        input: &Array2<A>,
        state: &mut CellState<A>,
        given: bool,
        hidden: Option<ArrayViewMut2<A>>,
        record: bool,
    ) -> Result<Tape<A>, NnError> {
        let mut tape = self.take_tape(packing.lines(), record);
        tape.given = given;
        let mut bias = tape.bias.row_mut(0);
        bias.assign(&self.bias_ih);
        bias += &self.bias_hh;
        tape.recurrent.assign(&self.weight_hh.t());
        gemm(
            A::one(),
            input,
            &self.weight_ih.t(),
            A::zero(),
            &mut tape.gates,
        )?;
        let Tape {
            gates,
            previous_h,
            previous_c,
            tanh_c,
            bias,
            recurrent,
            ..
        } = &mut tape;
        let (bias, recurrent) = (flat(bias.view_mut()), &*recurrent);
        let rest = Lines {
            gates: gates.view_mut(),
            record: record.then(|| [previous_h, previous_c, tanh_c].map(|array| array.view_mut())),
            hidden,
        };
        let (h, c) = (state.h.view_mut(), state.c.view_mut());
        match self.rows_of_first_thread(packing) {
            None => {
                let mut rest = Some(rest);
                let steps = (0..packing.longest()).map_while(|step| {
                    let (lines, later) = rest.take()?.split_at(packing.lines_of(step).len());
                    rest = Some(later);
                    Some(lines)
                });
                self.advance_steps(bias, recurrent, given, steps, (h, c))?;
            }
            Some(rows) => {
                let mut rest = rest;
                let (mut first, mut second) = (Vec::new(), Vec::new());
                for step in 0..packing.longest() {
                    let count = packing.lines_of(step).len();
                    let (lines, later) = rest.split_at(count);
                    rest = later;
                    let (above, below) = lines.split_at(count.min(rows));
                    first.push(above);
                    second.push(below);
                }
                let (first_h, second_h) = h.split_at(Axis(0), rows);
                let (first_c, second_c) = c.split_at(Axis(0), rows);
                let bias = &*bias;
                let run =
                    |lines: Vec<_>, state| self.advance_steps(bias, recurrent, given, lines, state);
                let (first, second) = rayon::join(
                    || run(first, (first_h, first_c)),
                    || run(second, (second_h, second_c)),
                );
                first.and(second)?;
            }
        }
        Ok(tape)
    }

    /// Runs over `steps`, each with the lines of the first rows of `state`.
    fn advance_steps<'a>(
        &self,
        bias: &[A],
        recurrent: &Array2<A>,
        given: bool,
        steps: impl IntoIterator<Item = Lines<'a, A>>,
        (mut h, mut c): (ArrayViewMut2<A>, ArrayViewMut2<A>),
    ) -> Result<(), NnError> {
        let size = self.hidden_size();
        for (step, lines) in steps.into_iter().enumerate() {
            let Lines {
                mut gates,
                record,
                hidden,
            } = lines;
            let active = s![..gates.nrows(), ..];
            let (mut h, c) = (h.slice_mut(active), c.slice_mut(active));
            if step > 0 || given {
                gemm(A::one(), &h, recurrent, A::one(), &mut gates)?;
            }
            let tanh_c = record.map(|[mut previous_h, mut previous_c, tanh_c]| {
                previous_h.assign(&h);
                previous_c.assign(&c);
                flat(tanh_c)
            });
            let (gates, c) = (flat(gates), flat(c));
            let flat_h = flat(h.view_mut());
            vectorized(
                #[inline(always)]
                || advance(size, gates, bias, flat_h, c, tanh_c),
            );
            if let Some(mut hidden) = hidden {
                hidden.assign(&h);
            }
        }
        Ok(())
    }

    /// Where to cut the sorted rows for two threads that work side by side, so that both have about
    /// as many lines. None if that does not pay. A row is computed in the same way by either.
    fn rows_of_first_thread(&self, packing: &Packing) -> Option<usize> {
        let size = self.hidden_size();
        let work = packing.lines() * 4 * size * size;
        if work < WORTH_THREADS || packing.batch() < 2 || rayon::current_num_threads() < 2 {
            return None;
        }
        Some(packing.rows_of_half())
    }

    /// Goes back over all steps. Turns the gates of `tape` into their gradients, and `gradient` from
    /// the gradient in the last state of every row into that in its first, which is meaningful if
    /// the state was given. `dhidden [P, H]` is the gradient in the hidden states of all steps.
    pub(super) fn run_back(
        &self,
        packing: &Packing,
        tape: &mut Tape<A>,
        dhidden: Option<ArrayView2<A>>,
        gradient: &mut CellState<A>,
    ) -> Result<(), NnError> {
        let Tape {
            gates,
            previous_c,
            tanh_c,
            given,
            ..
        } = tape;
        let rest = LinesBack {
            gates: gates.view_mut(),
            tanh_c: tanh_c.view(),
            previous_c: previous_c.view(),
            dhidden,
        };
        let (dh, dc) = (gradient.h.view_mut(), gradient.c.view_mut());
        let given = *given;
        match self.rows_of_first_thread(packing) {
            None => {
                let mut rest = Some(rest);
                let steps = (0..packing.longest()).rev().map_while(|step| {
                    let (earlier, lines) = rest.take()?.split_at(packing.lines_of(step).start);
                    rest = Some(earlier);
                    Some((step, lines))
                });
                self.retreat_steps(given, steps, (dh, dc))
            }
            Some(rows) => {
                let mut rest = rest;
                let (mut first, mut second) = (Vec::new(), Vec::new());
                for step in (0..packing.longest()).rev() {
                    let range = packing.lines_of(step);
                    let (earlier, lines) = rest.split_at(range.start);
                    rest = earlier;
                    let (above, below) = lines.split_at(range.len().min(rows));
                    first.push((step, above));
                    second.push((step, below));
                }
                let (first_dh, second_dh) = dh.split_at(Axis(0), rows);
                let (first_dc, second_dc) = dc.split_at(Axis(0), rows);
                let run = |lines: Vec<_>, state| self.retreat_steps(given, lines, state);
                let (first, second) = rayon::join(
                    || run(first, (first_dh, first_dc)),
                    || run(second, (second_dh, second_dc)),
                );
                first.and(second)
            }
        }
    }

    /// The reverse of [`advance_steps`](Self::advance_steps), with each step's number.
    fn retreat_steps<'a>(
        &self,
        given: bool,
        steps: impl IntoIterator<Item = (usize, LinesBack<'a, A>)>,
        (mut dh, mut dc): (ArrayViewMut2<A>, ArrayViewMut2<A>),
    ) -> Result<(), NnError> {
        let size = self.hidden_size();
        for (step, lines) in steps {
            let LinesBack {
                mut gates,
                tanh_c,
                previous_c,
                dhidden,
            } = lines;
            let active = s![..gates.nrows(), ..];
            let (mut dh, dc) = (dh.slice_mut(active), dc.slice_mut(active));
            if let Some(dhidden) = &dhidden {
                dh += dhidden;
            }
            let (flat_gates, flat_dh, dc) = (flat(gates.view_mut()), flat(dh.view_mut()), flat(dc));
            let (tanh_c, previous_c) = (flat_ref(&tanh_c), flat_ref(&previous_c));
            vectorized(
                #[inline(always)]
                || retreat(size, flat_gates, tanh_c, previous_c, flat_dh, dc),
            );
            if step > 0 || given {
                gemm(A::one(), &gates, &self.weight_hh, A::zero(), &mut dh)?;
            }
        }
        Ok(())
    }

    /// Adds the gradients of all weights to `grads`, after [`run_back`](Self::run_back).
    pub(super) fn add_gradients(
        packing: &Packing,
        input: &Array2<A>,
        tape: &Tape<A>,
        grads: &mut Self,
    ) -> Result<(), NnError> {
        let dgates = &tape.gates;
        gemm(A::one(), &dgates.t(), input, A::one(), &mut grads.weight_ih)?;
        // Unless it was given, the state before the first step is zero.
        let first = if tape.given || packing.longest() == 0 {
            0
        } else {
            packing.lines_of(0).end
        };
        let later = dgates.slice(s![first.., ..]);
        let previous_h = tape.previous_h.slice(s![first.., ..]);
        gemm(
            A::one(),
            &later.t(),
            &previous_h,
            A::one(),
            &mut grads.weight_hh,
        )?;
        let dbias = dgates.sum_axis(Axis(0));
        grads.bias_ih += &dbias;
        grads.bias_hh += &dbias;
        Ok(())
    }

    /// The gradient in the input `[P, D]`, after [`run_back`](Self::run_back).
    pub(super) fn input_gradient(&self, tape: &Tape<A>) -> Result<Array2<A>, NnError> {
        let mut dinput = Array2::zeros((tape.gates.nrows(), self.input_size()));
        gemm(
            A::one(),
            &tape.gates,
            &self.weight_ih,
            A::zero(),
            &mut dinput,
        )?;
        Ok(dinput)
    }

    /// Fails unless `tape` and `grads` are of this cell's sizes.
    pub(super) fn check(
        &self,
        packing: &Packing,
        tape: &Tape<A>,
        grads: &Self,
    ) -> Result<(), NnError> {
        let expected = [packing.lines(), 4 * self.hidden_size()];
        check_shape("lstm backward", "cache", tape.gates.shape(), &expected)?;
        for (operand, found, expected) in [
            (
                "grads.weight_ih",
                grads.weight_ih.shape(),
                self.weight_ih.shape(),
            ),
            (
                "grads.weight_hh",
                grads.weight_hh.shape(),
                self.weight_hh.shape(),
            ),
        ] {
            check_shape("lstm backward", operand, found, expected)?;
        }
        Ok(())
    }
}

/// The entries of whole rows of an array in standard layout.
fn flat<A>(rows: ArrayViewMut2<'_, A>) -> &mut [A] {
    rows.into_slice()
        .expect("whole rows of an array in standard layout are contiguous")
}

/// As [`flat`], to read.
fn flat_ref<'a, A>(rows: &'a ArrayView2<'_, A>) -> &'a [A] {
    rows.as_slice()
        .expect("whole rows of an array in standard layout are contiguous")
}

/// One step of every row: `gates` holds the products and becomes i, f, g, o.
#[inline(always)]
fn advance<A: Scalar>(
    size: usize,
    gates: &mut [A],
    bias: &[A],
    h: &mut [A],
    c: &mut [A],
    mut tanh_c: Option<&mut [A]>,
) {
    let rows = gates
        .chunks_exact_mut(4 * size)
        .zip(h.chunks_exact_mut(size))
        .zip(c.chunks_exact_mut(size));
    for (row, ((gates, h), c)) in rows.enumerate() {
        for start in (0..size).step_by(LANES) {
            let end = size.min(start + LANES);
            let gate = |index: usize| index * size + start..index * size + end;
            let (i, f) = (sum(gates, bias, gate(0)), sum(gates, bias, gate(1)));
            let (g, o) = (sum(gates, bias, gate(2)), sum(gates, bias, gate(3)));
            let (i, f, g, o) = (sigmoid(i), sigmoid(f), tanh(g), sigmoid(o));
            let before = load(&c[start..end]);
            let after = lanes(|lane| f[lane] * before[lane] + i[lane] * g[lane]);
            let squashed = tanh(after);
            store(&i, &mut gates[gate(0)]);
            store(&f, &mut gates[gate(1)]);
            store(&g, &mut gates[gate(2)]);
            store(&o, &mut gates[gate(3)]);
            store(&after, &mut c[start..end]);
            store(&lanes(|lane| o[lane] * squashed[lane]), &mut h[start..end]);
            if let Some(tanh_c) = &mut tanh_c {
                store(&squashed, &mut tanh_c[row * size + start..row * size + end]);
            }
        }
    }
}

/// The reverse of [`advance`]: `gates` becomes the gradient in the sums before the gates' functions,
/// `dc` the gradient in the cell state before the step.
#[inline(always)]
fn retreat<A: Scalar>(
    size: usize,
    gates: &mut [A],
    tanh_c: &[A],
    previous_c: &[A],
    dh: &[A],
    dc: &mut [A],
) {
    let one = A::one();
    let rows = gates
        .chunks_exact_mut(4 * size)
        .zip(tanh_c.chunks_exact(size))
        .zip(previous_c.chunks_exact(size))
        .zip(dh.chunks_exact(size))
        .zip(dc.chunks_exact_mut(size));
    for ((((gates, tanh_c), previous_c), dh), dc) in rows {
        for start in (0..size).step_by(LANES) {
            let end = size.min(start + LANES);
            let gate = |index: usize| index * size + start..index * size + end;
            let (i, f) = (load(&gates[gate(0)]), load(&gates[gate(1)]));
            let (g, o) = (load(&gates[gate(2)]), load(&gates[gate(3)]));
            let squashed = load(&tanh_c[start..end]);
            let before = load(&previous_c[start..end]);
            let (dh, after) = (load(&dh[start..end]), load(&dc[start..end]));
            let dc_sum = lanes(|lane| {
                after[lane] + dh[lane] * o[lane] * (one - squashed[lane] * squashed[lane])
            });
            let di = lanes(|lane| dc_sum[lane] * g[lane] * i[lane] * (one - i[lane]));
            let df = lanes(|lane| dc_sum[lane] * before[lane] * f[lane] * (one - f[lane]));
            let dg = lanes(|lane| dc_sum[lane] * i[lane] * (one - g[lane] * g[lane]));
            let d_o = lanes(|lane| dh[lane] * squashed[lane] * o[lane] * (one - o[lane]));
            store(&di, &mut gates[gate(0)]);
            store(&df, &mut gates[gate(1)]);
            store(&dg, &mut gates[gate(2)]);
            store(&d_o, &mut gates[gate(3)]);
            store(&lanes(|lane| dc_sum[lane] * f[lane]), &mut dc[start..end]);
        }
    }
}

#[inline(always)]
fn sum<A: Scalar>(left: &[A], right: &[A], range: Range<usize>) -> Lanes<A> {
    let (left, right) = (load(&left[range.clone()]), load(&right[range]));
    lanes(|lane| left[lane] + right[lane])
}

#[inline(always)]
fn lanes<A>(entry: impl FnMut(usize) -> A) -> Lanes<A> {
    std::array::from_fn(entry)
}
