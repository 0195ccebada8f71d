//! The vector registers of each instruction set behind one interface.
//!
//! Every method is `unsafe` for two reasons: a pointer must be valid for the lanes named, and the
//! processor must have the instruction set. The second is the duty of [`Kernel`](crate::kernel), the
//! one place that names implementations, and is not repeated below.

/// A vector register of `COUNT` numbers.
pub(crate) trait Lanes: Copy {
    type Scalar: Copy + 'static;
    const COUNT: usize;

    unsafe fn splat(x: Self::Scalar) -> Self;
    /// Reads `COUNT` numbers.
    unsafe fn load(from: *const Self::Scalar) -> Self;
    /// Reads the first `count <= COUNT` numbers, the others are zero.
    unsafe fn load_first(from: *const Self::Scalar, count: usize) -> Self;
    /// Writes `COUNT` numbers.
    unsafe fn store(self, to: *mut Self::Scalar);
    /// Writes the first `count <= COUNT` numbers.
    unsafe fn store_first(self, to: *mut Self::Scalar, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * factor + term`, with one rounding where the instruction set has it.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// Transposes the square block that `COUNT` registers hold.
    unsafe fn transpose(rows: &mut [Self]);
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    impl Lanes for __m512 {
        type Scalar = f32;
        const COUNT: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the processor has AVX-512; `from` is valid for `COUNT` numbers.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            // SAFETY: the processor has AVX-512; `from` is valid for `count` numbers, and no lane beyond is read.
            unsafe { _mm512_maskz_loadu_ps(((1_u32 << count) - 1) as __mmask16, from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the processor has AVX-512; `to` is valid for `COUNT` numbers.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            // SAFETY: the processor has AVX-512; `to` is valid for `count` numbers, and no lane beyond is written.
            unsafe { _mm512_mask_storeu_ps(to, ((1_u32 << count) - 1) as __mmask16, self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_mul_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_fmadd_ps(self, factor, term) }
        }

        #[inline(always)]
        unsafe fn transpose(rows: &mut [Self]) {
            // SAFETY: the processor has AVX-512.
            unsafe {
                // Transposes 4 x 4 blocks within the 128-bit quarters, then the quarters.
                for i in (0..16).step_by(4) {
                    let low = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
                    let high = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
                    let next_low = _mm512_unpacklo_ps(rows[i + 2], rows[i + 3]);
                    let next_high = _mm512_unpackhi_ps(rows[i + 2], rows[i + 3]);
                    rows[i] = _mm512_shuffle_ps::<0b01_00_01_00>(low, next_low);
                    rows[i + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(low, next_low);
                    rows[i + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(high, next_high);
                    rows[i + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(high, next_high);
                }
                for i in 0..4 {
                    let [a, b, c, d] = [rows[i], rows[i + 4], rows[i + 8], rows[i + 12]];
                    let even_first = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                    let odd_first = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                    let even_last = _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d);
                    let odd_last = _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d);
                    rows[i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even_first, even_last);
                    rows[i + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd_first, odd_last);
                    rows[i + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even_first, even_last);
                    rows[i + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd_first, odd_last);
                }
            }
        }
    }

    impl Lanes for __m512d {
        type Scalar = f64;
        const COUNT: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f64) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_set1_pd(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f64) -> Self {
            // SAFETY: the processor has AVX-512; `from` is valid for `COUNT` numbers.
            unsafe { _mm512_loadu_pd(from) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f64, count: usize) -> Self {
            // SAFETY: the processor has AVX-512; `from` is valid for `count` numbers, and no lane beyond is read.
            unsafe { _mm512_maskz_loadu_pd(((1_u32 << count) - 1) as __mmask8, from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f64) {
            // SAFETY: the processor has AVX-512; `to` is valid for `COUNT` numbers.
            unsafe { _mm512_storeu_pd(to, self) }
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f64, count: usize) {
            // SAFETY: the processor has AVX-512; `to` is valid for `count` numbers, and no lane beyond is written.
            unsafe { _mm512_mask_storeu_pd(to, ((1_u32 << count) - 1) as __mmask8, self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_add_pd(self, other) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_sub_pd(self, other) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_mul_pd(self, other) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_fmadd_pd(self, factor, term) }
        }

        #[inline(always)]
        unsafe fn transpose(rows: &mut [Self]) {
            // SAFETY: the processor has AVX-512.
            unsafe {
                for i in (0..8).step_by(2) {
                    let (a, b) = (rows[i], rows[i + 1]);
                    rows[i] = _mm512_unpacklo_pd(a, b);
                    rows[i + 1] = _mm512_unpackhi_pd(a, b);
                }
                for i in 0..2 {
                    let [a, b, c, d] = [rows[i], rows[i + 2], rows[i + 4], rows[i + 6]];
                    let even_first = _mm512_shuffle_f64x2::<0b10_00_10_00>(a, b);
                    let odd_first = _mm512_shuffle_f64x2::<0b11_01_11_01>(a, b);
                    let even_last = _mm512_shuffle_f64x2::<0b10_00_10_00>(c, d);
                    let odd_last = _mm512_shuffle_f64x2::<0b11_01_11_01>(c, d);
                    rows[i] = _mm512_shuffle_f64x2::<0b10_00_10_00>(even_first, even_last);
                    rows[i + 2] = _mm512_shuffle_f64x2::<0b10_00_10_00>(odd_first, odd_last);
                    rows[i + 4] = _mm512_shuffle_f64x2::<0b11_01_11_01>(even_first, even_last);
                    rows[i + 6] = _mm512_shuffle_f64x2::<0b11_01_11_01>(odd_first, odd_last);
                }
            }
        }
    }

    /// All ones in the first `count` of eight 32-bit lanes.
    #[inline(always)]
    unsafe fn mask(count: usize) -> __m256i {
        // SAFETY: the processor has AVX2.
        unsafe {
            _mm256_cmpgt_epi32(
                _mm256_set1_epi32(count as i32),
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            )
        }
    }

    impl Lanes for __m256 {
        type Scalar = f32;
        const COUNT: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the processor has AVX2 and FMA; `from` is valid for `COUNT` numbers.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            // SAFETY: the processor has AVX2 and FMA; `from` is valid for `count` numbers, and no lane beyond is read.
            unsafe { _mm256_maskload_ps(from, mask(count)) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the processor has AVX2 and FMA; `to` is valid for `COUNT` numbers.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            // SAFETY: the processor has AVX2 and FMA; `to` is valid for `count` numbers, and no lane beyond is written.
            unsafe { _mm256_maskstore_ps(to, mask(count), self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_mul_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_fmadd_ps(self, factor, term) }
        }

        #[inline(always)]
        unsafe fn transpose(rows: &mut [Self]) {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe {
                for i in (0..8).step_by(4) {
                    let low = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
                    let high = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
                    let next_low = _mm256_unpacklo_ps(rows[i + 2], rows[i + 3]);
                    let next_high = _mm256_unpackhi_ps(rows[i + 2], rows[i + 3]);
                    rows[i] = _mm256_shuffle_ps::<0b01_00_01_00>(low, next_low);
                    rows[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(low, next_low);
                    rows[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(high, next_high);
                    rows[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(high, next_high);
                }
                for i in 0..4 {
                    let (a, b) = (rows[i], rows[i + 4]);
                    rows[i] = _mm256_permute2f128_ps::<0x20>(a, b);
                    rows[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
                }
            }
        }
    }

    impl Lanes for __m256d {
        type Scalar = f64;
        const COUNT: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: f64) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_set1_pd(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f64) -> Self {
            // SAFETY: the processor has AVX2 and FMA; `from` is valid for `COUNT` numbers.
            unsafe { _mm256_loadu_pd(from) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f64, count: usize) -> Self {
            // SAFETY: the processor has AVX2 and FMA; `from` is valid for `count` numbers, and no lane beyond is read.
            unsafe {
                _mm256_maskload_pd(
                    from,
                    _mm256_cvtepi32_epi64(_mm256_castsi256_si128(mask(count))),
                )
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f64) {
            // SAFETY: the processor has AVX2 and FMA; `to` is valid for `COUNT` numbers.
            unsafe { _mm256_storeu_pd(to, self) }
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f64, count: usize) {
            // SAFETY: the processor has AVX2 and FMA; `to` is valid for `count` numbers, and no lane beyond is written.
            unsafe {
                let mask = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(mask(count)));
                _mm256_maskstore_pd(to, mask, self);
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_add_pd(self, other) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_sub_pd(self, other) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_mul_pd(self, other) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { _mm256_fmadd_pd(self, factor, term) }
        }

        #[inline(always)]
        unsafe fn transpose(rows: &mut [Self]) {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe {
                let low = _mm256_unpacklo_pd(rows[0], rows[1]);
                let high = _mm256_unpackhi_pd(rows[0], rows[1]);
                let next_low = _mm256_unpacklo_pd(rows[2], rows[3]);
                let next_high = _mm256_unpackhi_pd(rows[2], rows[3]);
                rows[0] = _mm256_permute2f128_pd::<0x20>(low, next_low);
                rows[1] = _mm256_permute2f128_pd::<0x20>(high, next_high);
                rows[2] = _mm256_permute2f128_pd::<0x31>(low, next_low);
                rows[3] = _mm256_permute2f128_pd::<0x31>(high, next_high);
            }
        }
    }
}

/// 128 bits as an array, which compilers turn into the baseline registers of the target (SSE2, NEON).
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(crate) struct Portable<A, const COUNT: usize>([A; COUNT]);

macro_rules! portable {
    ($number:ty, $count:literal) => {
        impl Lanes for Portable<$number, $count> {
            type Scalar = $number;
            const COUNT: usize = $count;

            #[inline(always)]
            unsafe fn splat(x: $number) -> Self {
                Self([x; $count])
            }

            #[inline(always)]
            unsafe fn load(from: *const $number) -> Self {
                // SAFETY: `from` is valid for `COUNT` numbers.
                Self(unsafe { from.cast::<[$number; $count]>().read_unaligned() })
            }

            #[inline(always)]
            unsafe fn load_first(from: *const $number, count: usize) -> Self {
                let mut lanes = [0.0; $count];
                for (i, lane) in lanes.iter_mut().enumerate().take(count) {
                    // SAFETY: `from` is valid for `count` numbers, and `i` is below.
                    *lane = unsafe { from.add(i).read() };
                }
                Self(lanes)
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $number) {
                // SAFETY: `to` is valid for `COUNT` numbers.
                unsafe { to.cast::<[$number; $count]>().write_unaligned(self.0) }
            }

            #[inline(always)]
            unsafe fn store_first(self, to: *mut $number, count: usize) {
                for (i, &lane) in self.0.iter().enumerate().take(count) {
                    // SAFETY: `to` is valid for `count` numbers, and `i` is below.
                    unsafe { to.add(i).write(lane) };
                }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
            }

            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
            }

            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
            }

            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
                Self(std::array::from_fn(|i| {
                    // Where the target has no such instruction, `mul_add` would be a function call.
                    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                        self.0[i].mul_add(factor.0[i], term.0[i])
                    } else {
                        self.0[i] * factor.0[i] + term.0[i]
                    }
                }))
            }

            #[inline(always)]
            unsafe fn transpose(rows: &mut [Self]) {
                let block: [[$number; $count]; $count] = std::array::from_fn(|i| rows[i].0);
                for (i, row) in rows.iter_mut().enumerate() {
                    row.0 = std::array::from_fn(|j| block[j][i]);
                }
            }
        }
    };
}

portable!(f32, 4);
portable!(f64, 2);
