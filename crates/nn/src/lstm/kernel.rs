//! The loops over steps, rows and gates.
//!
//! A line of the tape is `z = [1, x, h]` before a step, so that one product with `[b, W_ih, W_hh]ᵀ`
//! gives the sums of all gates, and one product of all lines with the gates' gradients gives those
//! of all weights. The gates of a line are in the order of the registers: for every register of
//! units its i, f, g and o. Some rows at a time are multiplied and go through the gates' functions
//! without leaving the registers in between.

use modalign_core::Scalar;

use super::cell::Tape;
use super::packing::Packing;
use super::registers::{Pass, Registers};

/// Lines whose gradients are summed up before the next ones follow, so that they stay in the cache.
const BLOCK: usize = 64;

/// All steps forward.
pub(super) struct Forward<'a> {
    pub(super) packing: &'a Packing,
    /// Whether to leave what the backward pass needs.
    pub(super) record: bool,
}

impl Pass for Forward<'_> {
    #[inline(always)]
    fn run<R: Registers>(self, registers: R, tape: &mut Tape<R::Scalar>) {
        let packing = self.packing;
        for step in 0..packing.longest() {
            let lines = packing.lines_of(step);
            let later = match step + 1 < packing.longest() {
                true => packing.lines_of(step + 1).len(),
                false => 0,
            };
            let stride = tape.form.stride();
            let (z, next) = tape.z.split_at_mut(lines.end * stride);
            let recorded = if self.record { lines.clone() } else { 0..0 };
            let registers_of = |per_line: usize| recorded.start * per_line..recorded.end * per_line;
            let chunks = tape.form.padded / R::LANES;
            let mut step = Step {
                sums: tape.form.sums(),
                stride,
                hidden: 1 + tape.form.inputs,
                chunks,
                later,
                weights: R::view(&tape.weights).as_chunks().0,
                z: &z[lines.start * stride..],
                next,
                h: &mut tape.h,
                c: R::view_mut(&mut tape.c),
                gates: &mut R::view_mut(&mut tape.gates).as_chunks_mut().0[registers_of(chunks)],
                previous_c: &mut R::view_mut(&mut tape.previous_c)[registers_of(chunks)],
                tanh_c: &mut R::view_mut(&mut tape.tanh_c)[registers_of(chunks)],
            };
            let count = lines.len();
            let mut row = 0;
            // Registers for four sums a row, the four weights and a number of the line.
            while row < count {
                let rows = (count - row).min(if R::COUNT >= 32 { 6 } else { 2 });
                row += match rows {
                    6.. => step.rows::<6>(registers, row),
                    4.. => step.rows::<4>(registers, row),
                    2.. => step.rows::<2>(registers, row),
                    _ => step.rows::<1>(registers, row),
                };
            }
        }
    }
}

/// The lines of one step.
struct Step<'a, R: Registers> {
    sums: usize,
    stride: usize,
    hidden: usize,
    chunks: usize,
    /// Rows at work in the next step.
    later: usize,
    weights: &'a [[R::Register; 4]],
    z: &'a [R::Scalar],
    /// The lines of the steps after this one.
    next: &'a mut [R::Scalar],
    h: &'a mut [R::Scalar],
    c: &'a mut [R::Register],
    gates: &'a mut [[R::Register; 4]],
    previous_c: &'a mut [R::Register],
    tanh_c: &'a mut [R::Register],
}

impl<R: Registers> Step<'_, R> {
    /// Advances some rows and returns how many.
    #[inline(always)]
    fn rows<const ROWS: usize>(&mut self, registers: R, first: usize) -> usize {
        let zero = registers.splat(R::Scalar::from_f64(0.0));
        let z: [&[R::Scalar]; ROWS] =
            std::array::from_fn(|row| &self.z[(first + row) * self.stride..][..self.sums]);
        for chunk in 0..self.chunks {
            let weights = &self.weights[chunk * self.sums..][..self.sums];
            let mut sums = [[zero; 4]; ROWS];
            for (index, weights) in weights.iter().enumerate() {
                for (sums, z) in sums.iter_mut().zip(&z) {
                    let z = registers.splat(z[index]);
                    for (sum, &weight) in sums.iter_mut().zip(weights) {
                        *sum = registers.mul_add(weight, z, *sum);
                    }
                }
            }
            for (row, [i, f, g, o]) in sums.into_iter().enumerate() {
                let row = first + row;
                let place = row * self.chunks + chunk;
                let (i, f) = (registers.sigmoid(i), registers.sigmoid(f));
                let (g, o) = (registers.tanh(g), registers.sigmoid(o));
                let before = self.c[place];
                let c = registers.mul_add(f, before, registers.mul(i, g));
                let tanh_c = registers.tanh(c);
                let h = registers.mul(o, tanh_c);
                self.c[place] = c;
                if let Some(gates) = self.gates.get_mut(place) {
                    *gates = [i, f, g, o];
                    self.previous_c[place] = before;
                    self.tanh_c[place] = tanh_c;
                }
                let start = chunk * R::LANES;
                let target = if row < self.later {
                    &mut self.next[row * self.stride + self.hidden + start..]
                } else {
                    &mut self.h[row * self.chunks * R::LANES + start..]
                };
                R::view_mut(&mut target[..R::LANES])[0] = h;
            }
        }
        ROWS
    }
}

/// All steps backward: the gates become the gradients in their sums, `h` and `c` of the tape turn
/// from the gradient in the last state of every row into that in its first, and `dweights` is
/// written. Steps before the one where all gradients have vanished are left out.
pub(super) struct Backward<'a> {
    pub(super) packing: &'a Packing,
    /// Whether the gates' gradients are needed in all steps.
    pub(super) input_gradient: bool,
}

impl Pass for Backward<'_> {
    #[inline(always)]
    fn run<R: Registers>(self, registers: R, tape: &mut Tape<R::Scalar>) {
        let (packing, form) = (self.packing, tape.form);
        let chunks = form.padded / R::LANES;
        tape.dweights.fill(R::Scalar::from_f64(0.0));
        let mut summed = packing.lines();
        for step in (0..packing.longest()).rev() {
            let lines = packing.lines_of(step);
            let units = lines.start * chunks..lines.end * chunks;
            let numbers = lines.start * form.padded..lines.end * form.padded;
            let mut back = StepBack {
                padded: form.padded,
                chunks,
                weights: R::view(&tape.back_weights),
                gates: &mut tape.gates[4 * numbers.start..4 * numbers.end],
                previous_c: &R::view(&tape.previous_c)[units.clone()],
                tanh_c: &R::view(&tape.tanh_c)[units.clone()],
                dhidden: R::view(&tape.dhidden).get(units).unwrap_or_default(),
                dh: R::view_mut(&mut tape.h),
                dc: R::view_mut(&mut tape.c),
                product: step > 0 || tape.given,
            };
            // From the last line to the first, for memory is fetched ahead in one direction.
            let mut left = lines.len();
            while left > 0 {
                left -= match left.min(if R::COUNT >= 32 { 8 } else { 4 }) {
                    8.. => back.rows::<8>(registers, left),
                    4.. => back.rows::<4>(registers, left),
                    2.. => back.rows::<2>(registers, left),
                    _ => back.rows::<1>(registers, left),
                };
            }
            if step == 0 || summed - lines.start >= BLOCK {
                let lines = lines.start..summed;
                let stride = form.stride();
                let mut block = Block::<R> {
                    stride,
                    chunks,
                    z: &tape.z[lines.start * stride..lines.end * stride],
                    gates: &R::view(&tape.gates).as_chunks().0
                        [lines.start * chunks..lines.end * chunks],
                    dweights: R::view_mut(&mut tape.dweights).as_chunks_mut().0,
                };
                let mut sum = 0;
                while sum < form.sums() {
                    let sums = (form.sums() - sum).min(if R::COUNT >= 32 { 6 } else { 2 });
                    sum += match sums {
                        6.. => block.sums::<6>(registers, sum),
                        4.. => block.sums::<4>(registers, sum),
                        2.. => block.sums::<2>(registers, sum),
                        _ => block.sums::<1>(registers, sum),
                    };
                }
                summed = lines.start;
                let zero = R::Scalar::from_f64(0.0);
                let vanished = |state: &[R::Scalar]| state.iter().all(|&x| x == zero);
                if tape.dhidden.is_empty() && vanished(&tape.h) && vanished(&tape.c) {
                    // Nothing reaches the steps before.
                    if self.input_gradient {
                        tape.gates[..4 * numbers.start].fill(zero);
                    }
                    break;
                }
            }
        }
    }
}

/// The lines of one step.
struct StepBack<'a, R: Registers> {
    padded: usize,
    chunks: usize,
    weights: &'a [R::Register],
    gates: &'a mut [R::Scalar],
    previous_c: &'a [R::Register],
    tanh_c: &'a [R::Register],
    /// Empty if there is no gradient in the hidden states of the steps.
    dhidden: &'a [R::Register],
    dh: &'a mut [R::Register],
    dc: &'a mut [R::Register],
    /// Whether there is a state before the step.
    product: bool,
}

impl<R: Registers> StepBack<'_, R> {
    /// Takes the last rows before `end` back and returns how many.
    #[inline(always)]
    fn rows<const ROWS: usize>(&mut self, registers: R, end: usize) -> usize {
        let first = end - ROWS;
        let width = 4 * self.padded;
        let places = first * self.chunks..(first + ROWS) * self.chunks;
        let gates = &mut self.gates[first * width..(first + ROWS) * width];
        for (place, gates) in places.zip(R::view_mut(gates).as_chunks_mut().0).rev() {
            let [i, f, g, o] = *gates;
            let (before, tanh_c) = (self.previous_c[place], self.tanh_c[place]);
            let dh = match self.dhidden.get(place) {
                Some(&dhidden) => registers.add(self.dh[place], dhidden),
                None => self.dh[place],
            };
            // Each is x − x y, where y is the gate or its square.
            let through = registers.mul(dh, o);
            let through = registers.sub_mul(through, registers.mul(through, tanh_c), tanh_c);
            let dc = registers.add(self.dc[place], through);
            let di = registers.mul(registers.mul(dc, g), i);
            let df = registers.mul(registers.mul(dc, before), f);
            let dg = registers.mul(dc, i);
            let d_o = registers.mul(registers.mul(dh, tanh_c), o);
            *gates = [
                registers.sub_mul(di, di, i),
                registers.sub_mul(df, df, f),
                registers.sub_mul(dg, registers.mul(dg, g), g),
                registers.sub_mul(d_o, d_o, o),
            ];
            self.dc[place] = registers.flush(registers.mul(dc, f));
        }
        if self.product {
            let mut chunk = 0;
            while chunk < self.chunks {
                chunk += match self.chunks - chunk {
                    2.. => self.product::<ROWS, 2>(registers, first, chunk),
                    _ => self.product::<ROWS, 1>(registers, first, chunk),
                };
            }
        }
        ROWS
    }

    #[inline(always)]
    fn product<const ROWS: usize, const CHUNKS: usize>(
        &mut self,
        registers: R,
        first: usize,
        chunk: usize,
    ) -> usize {
        let width = 4 * self.padded;
        let gates: [&[R::Scalar]; ROWS] =
            std::array::from_fn(|row| &self.gates[(first + row) * width..][..width]);
        let mut sums = [[registers.splat(R::Scalar::from_f64(0.0)); CHUNKS]; ROWS];
        let weights = self.weights.chunks_exact(self.chunks);
        for (index, weights) in weights.enumerate().take(width) {
            let weights = &weights[chunk..][..CHUNKS];
            for (sums, gates) in sums.iter_mut().zip(&gates) {
                let gate = registers.splat(gates[index]);
                for (sum, &weight) in sums.iter_mut().zip(weights) {
                    *sum = registers.mul_add(weight, gate, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let dh = &mut self.dh[(first + row) * self.chunks + chunk..][..CHUNKS];
            for (dh, sum) in dh.iter_mut().zip(sums) {
                *dh = registers.flush(sum);
            }
        }
        CHUNKS
    }
}

/// Lines of one step or several.
struct Block<'a, R: Registers> {
    stride: usize,
    chunks: usize,
    z: &'a [R::Scalar],
    gates: &'a [[R::Register; 4]],
    dweights: &'a mut [[R::Register; 4]],
}

impl<R: Registers> Block<'_, R> {
    /// Adds to the gradients of the weights of some numbers of `z` and returns of how many.
    #[inline(always)]
    fn sums<const SUMS: usize>(&mut self, registers: R, first: usize) -> usize {
        for chunk in 0..self.chunks {
            let place = |sum: usize| (first + sum) * self.chunks + chunk;
            let mut sums: [[R::Register; 4]; SUMS] =
                std::array::from_fn(|sum| self.dweights[place(sum)]);
            let z = self.z.chunks_exact(self.stride);
            for (z, gates) in z.zip(self.gates.chunks_exact(self.chunks)) {
                let (z, gates) = (&z[first..][..SUMS], &gates[chunk]);
                for (sums, &z) in sums.iter_mut().zip(z) {
                    let z = registers.splat(z);
                    for (sum, &gate) in sums.iter_mut().zip(gates) {
                        *sum = registers.mul_add(gate, z, *sum);
                    }
                }
            }
            for (sum, sums) in sums.into_iter().enumerate() {
                self.dweights[place(sum)] = sums;
            }
        }
        SUMS
    }
}
