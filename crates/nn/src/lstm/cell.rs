//! One layer in one direction, on the packed layout.

use std::sync::{Mutex, PoisonError};

use modalign_core::{Scalar, check_shape};
use modalign_linalg::gemm;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewD, ArrayViewMut1, ArrayViewMutD};
use rand::Rng;

use super::kernel::{Backward, Forward};
use super::packing::Packing;
use super::registers::{dispatch, lanes};
use crate::NnError;
use crate::init::uniform;
use crate::memory::Aligned;

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

/// The sizes of a tape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// D.
    pub(super) inputs: usize,
    /// H.
    pub(super) size: usize,
    /// H with the units that fill up a register. Their weights are zero, and so are their states.
    pub(super) padded: usize,
    /// Units a register.
    lanes: usize,
}

impl Form {
    /// The numbers of a line that have weights: 1, D and H.
    pub(super) fn sums(self) -> usize {
        1 + self.inputs + self.size
    }

    /// The numbers of a line.
    pub(super) fn stride(self) -> usize {
        1 + self.inputs + self.padded
    }

    /// For each gate of each unit its row in the weights and its place in the order of the kernels.
    fn gates(self) -> impl Iterator<Item = (usize, usize)> {
        (0..4).flat_map(move |gate| {
            (0..self.size).map(move |unit| {
                let (register, lane) = (unit / self.lanes, unit % self.lanes);
                let place = (register * 4 + gate) * self.lanes + lane;
                (gate * self.size + unit, place)
            })
        })
    }
}

/// A pass over the rows of a packing: first the input and the weights in the order of the kernels,
/// then what the backward pass needs, then gradients. Lines are those of the packing; see
/// [`kernel`](super::kernel) for the order of the gates.
#[derive(Debug)]
pub(super) struct Tape<A> {
    pub(super) form: Form,
    /// Whether the first step started from a given state.
    pub(super) given: bool,
    /// For each register of units `[1 + D + H, 4, lanes]`.
    pub(super) weights: Aligned<A>,
    /// The recurrent weights, `[4 padded, padded]`; for the backward pass only.
    pub(super) back_weights: Aligned<A>,
    /// The ones, the input and the state each step started from: `[P, 1 + D + padded]`.
    pub(super) z: Aligned<A>,
    /// i, f, g, o, or the gradients in their sums: `[P, 4 padded]`.
    pub(super) gates: Aligned<A>,
    /// The cell state each step started from, `[P, padded]`.
    pub(super) previous_c: Aligned<A>,
    /// `[P, padded]`.
    pub(super) tanh_c: Aligned<A>,
    /// The gradient in the hidden states of all steps `[P, padded]`, if there is one.
    pub(super) dhidden: Aligned<A>,
    /// The last state of every row in the sorted order, `[B, padded]`; or the gradient in the first.
    pub(super) h: Aligned<A>,
    pub(super) c: Aligned<A>,
    /// `[1 + D + H, 4 padded]`.
    pub(super) dweights: Aligned<A>,
}

impl<A> Default for Tape<A> {
    fn default() -> Self {
        Self {
            form: Form::default(),
            given: false,
            weights: Aligned::default(),
            back_weights: Aligned::default(),
            z: Aligned::default(),
            gates: Aligned::default(),
            previous_c: Aligned::default(),
            tanh_c: Aligned::default(),
            dhidden: Aligned::default(),
            h: Aligned::default(),
            c: Aligned::default(),
            dweights: Aligned::default(),
        }
    }
}

impl<A: Scalar> Tape<A> {
    /// The lines and rows of the packing that it was made ready for, P and B.
    pub(super) fn extent(&self) -> [usize; 2] {
        [
            self.z.len() / self.form.stride(),
            self.h.len() / self.form.padded.max(1),
        ]
    }

    /// The input of one line.
    pub(super) fn input_mut(&mut self, line: usize) -> &mut [A] {
        &mut self.z[line * self.form.stride() + 1..][..self.form.inputs]
    }

    /// Brings the input of every line to the order of the other direction.
    pub(super) fn mirror_input(&mut self, mirror: &[usize]) {
        let (stride, inputs) = (self.form.stride(), self.form.inputs);
        for (line, &other) in mirror.iter().enumerate() {
            if line < other {
                let (first, second) = self.z.split_at_mut(other * stride);
                first[line * stride + 1..][..inputs].swap_with_slice(&mut second[1..][..inputs]);
            }
        }
    }

    /// The hidden and the cell state of the row at a place of the sorted order, or their gradients.
    pub(super) fn state(&self, place: usize) -> [&[A]; 2] {
        [&self.h, &self.c].map(|rows| &rows[place * self.form.padded..][..self.form.size])
    }

    /// As [`state`](Self::state), to write.
    pub(super) fn state_mut(&mut self, place: usize) -> [&mut [A]; 2] {
        let Form { size, padded, .. } = self.form;
        [&mut self.h, &mut self.c].map(|rows| &mut rows[place * padded..][..size])
    }

    /// The hidden state of the row at `place` after `step`, once the pass is done.
    pub(super) fn hidden(&self, packing: &Packing, step: usize, place: usize) -> &[A] {
        let later = step + 1;
        if later < packing.longest() && place < packing.lines_of(later).len() {
            let line = packing.lines_of(later).start + place;
            let Form { inputs, size, .. } = self.form;
            &self.z[line * self.form.stride() + 1 + inputs..][..size]
        } else {
            self.state(place)[0]
        }
    }

    /// Makes room for the gradient in all hidden states.
    pub(super) fn expect_dhidden(&mut self, packing: &Packing) {
        self.dhidden.clear(packing.lines() * self.form.padded);
    }

    /// The gradient in the hidden state of one line.
    pub(super) fn dhidden_mut(&mut self, line: usize) -> &mut [A] {
        &mut self.dhidden[line * self.form.padded..][..self.form.size]
    }
}

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

    /// A tape that has served, if there is one.
    pub(super) fn spare_tape(&self) -> Tape<A> {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        spare.unwrap_or_default()
    }

    /// Makes a tape ready for the rows of a packing, with the weights in it and zeros as first state,
    /// its input yet to be written. What only the backward pass needs has no room unless `record` is
    /// set.
    pub(super) fn prepare(&self, tape: &mut Tape<A>, packing: &Packing, record: bool) {
        let (inputs, size, lanes) = (self.input_size(), self.hidden_size(), lanes::<A>());
        let form = Form {
            inputs,
            size,
            padded: size.next_multiple_of(lanes),
            lanes,
        };
        let unchanged = tape.form == form;
        tape.form = form;
        tape.given = false;
        let (lines, padded, stride) = (packing.lines(), form.padded, form.stride());
        let recorded = if record { lines } else { 0 };
        tape.z.resize(lines * stride);
        for line in tape.z.chunks_exact_mut(stride) {
            line[0] = A::one();
        }
        tape.gates.resize(recorded * 4 * padded);
        tape.previous_c.resize(recorded * padded);
        tape.tanh_c.resize(recorded * padded);
        tape.dhidden.resize(0);
        tape.h.clear(packing.batch() * padded);
        tape.c.clear(packing.batch() * padded);
        let dweights = if record { form.sums() * 4 * padded } else { 0 };
        tape.dweights.resize(dweights);

        // What is not written below stays zero: the weights of units that fill up a register.
        if !unchanged {
            tape.weights.clear(form.sums() * 4 * padded);
            tape.back_weights.resize(0);
        }
        for (row, place) in form.gates() {
            let (register, rest) = (place / (4 * lanes), place % (4 * lanes));
            let start = register * form.sums() * 4 * lanes + rest;
            let bias = self.bias_ih[row] + self.bias_hh[row];
            let weights = &mut tape.weights[start..];
            weights[0] = bias;
            let recurrent = (1 + inputs) * 4 * lanes;
            spread(
                self.weight_ih.row(row),
                &mut weights[4 * lanes..],
                4 * lanes,
            );
            spread(
                self.weight_hh.row(row),
                &mut weights[recurrent..],
                4 * lanes,
            );
        }
        if record {
            if tape.back_weights.len() != 4 * padded * padded {
                tape.back_weights.clear(4 * padded * padded);
            }
            for (row, place) in form.gates() {
                let target = &mut tape.back_weights[place * padded..][..size];
                for (new, &weight) in target.iter_mut().zip(self.weight_hh.row(row)) {
                    *new = weight;
                }
            }
        }
    }

    /// Keeps the memory of a tape that has served.
    pub(super) fn give_tape(&self, tape: Tape<A>) {
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(tape);
    }

    /// Runs over all steps and leaves in the state of the tape that of every row after its last step.
    pub(super) fn run(packing: &Packing, tape: &mut Tape<A>, record: bool) {
        let Form {
            inputs,
            size,
            padded,
            ..
        } = tape.form;
        if packing.longest() > 0 {
            let lines = tape.z.chunks_exact_mut(tape.form.stride());
            let states = tape.h.chunks_exact(padded);
            for (line, state) in lines.zip(states).take(packing.lines_of(0).len()) {
                line[1 + inputs..][..size].copy_from_slice(&state[..size]);
            }
        }
        dispatch(Forward { packing, record }, tape);
    }

    /// Goes back over all steps. Turns the gates of the tape into their gradients, its state from the
    /// gradient in the last state of every row into that in its first (which is meaningful if the
    /// state was given), and sums up the gradients of the weights. Those of the gates may be missing
    /// where they have vanished unless `input_gradient` is set.
    pub(super) fn run_back(packing: &Packing, tape: &mut Tape<A>, input_gradient: bool) {
        let pass = Backward {
            packing,
            input_gradient,
        };
        dispatch(pass, tape);
    }

    /// Adds the gradients of all weights to `grads`, after [`run_back`](Self::run_back).
    pub(super) fn add_gradients(tape: &Tape<A>, grads: &mut Self) {
        let form = tape.form;
        for (row, place) in form.gates() {
            let (sums, step) = (&tape.dweights[place..], 4 * form.padded);
            let dbias = sums[0];
            grads.bias_ih[row] += dbias;
            grads.bias_hh[row] += dbias;
            let recurrent = (1 + form.inputs) * step;
            collect(&sums[step..], step, grads.weight_ih.row_mut(row));
            collect(&sums[recurrent..], step, grads.weight_hh.row_mut(row));
        }
    }

    /// The gradient in the input `[P, D]`, after [`run_back`](Self::run_back).
    pub(super) fn input_gradient(
        &self,
        packing: &Packing,
        tape: &Tape<A>,
    ) -> Result<Array2<A>, NnError> {
        let form = tape.form;
        let mut weights = Array2::zeros((4 * form.padded, form.inputs));
        for (row, place) in form.gates() {
            weights.row_mut(place).assign(&self.weight_ih.row(row));
        }
        let gates = ArrayView2::from_shape((packing.lines(), 4 * form.padded), &tape.gates)
            .expect("the tape has the lines of its packing");
        let mut dinput = Array2::zeros((packing.lines(), form.inputs));
        gemm(A::one(), &gates, &weights, A::zero(), &mut dinput)?;
        Ok(dinput)
    }

    /// Fails unless `tape` and `grads` are of this cell's sizes.
    pub(super) fn check(&self, tape: &Tape<A>, grads: &Self) -> Result<(), NnError> {
        let expected = [self.input_size(), self.hidden_size()];
        let found = [tape.form.inputs, tape.form.size];
        check_shape("lstm backward", "cache", &found, &expected)?;
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

/// Writes a row of weights to every `step`-th place.
fn spread<A: Scalar>(row: ArrayView1<A>, places: &mut [A], step: usize) {
    for (places, &weight) in places.chunks_mut(step).zip(row) {
        places[0] = weight;
    }
}

/// Adds every `step`-th sum to a row of gradients.
fn collect<A: Scalar>(sums: &[A], step: usize, row: ArrayViewMut1<A>) {
    for (gradient, sums) in row.into_iter().zip(sums.chunks(step)) {
        *gradient += sums[0];
    }
}
