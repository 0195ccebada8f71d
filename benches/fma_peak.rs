//! The most multiply-adds that this processor does: independent chains in registers, no memory. The
//! product kernels cannot be faster.
//!
//! Run with `cargo bench -p modalign-benches --bench fma_peak`.

use std::hint::black_box;
use std::time::Instant;

use modalign_benches::Threads;

/// Chains that no one waits for: more than latency times throughput, fewer than registers.
const CHAINS: usize = 12;
const STEPS: usize = 2_000_000;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;
    use std::array;

    use super::*;

    macro_rules! chains {
        ($name:ident, $feature:literal, $splat:ident, $fma:ident) => {
            #[target_feature(enable = $feature)]
            pub fn $name() {
                let (factor, term) = (black_box($splat(0.5)), black_box($splat(1.0)));
                let mut sums: [_; CHAINS] = array::from_fn(|_| term);
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        *sum = $fma(*sum, factor, term);
                    }
                }
                black_box(sums);
            }
        };
    }

    chains!(avx512_f32, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
    chains!(avx512_f64, "avx512f", _mm512_set1_pd, _mm512_fmadd_pd);
    chains!(avx2_f32, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);
    chains!(avx2_f64, "avx2,fma", _mm256_set1_pd, _mm256_fmadd_pd);

    /// Name, multiply-adds of an instruction, what to run.
    pub fn kernels() -> Vec<(&'static str, usize, fn())> {
        let mut kernels: Vec<(_, _, fn())> = Vec::new();
        // SAFETY: the processor was asked.
        if is_x86_feature_detected!("avx512f") {
            kernels.push(("avx512 f32", 16, || unsafe { avx512_f32() }));
            kernels.push(("avx512 f64", 8, || unsafe { avx512_f64() }));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            kernels.push(("avx2 f32", 8, || unsafe { avx2_f32() }));
            kernels.push(("avx2 f64", 4, || unsafe { avx2_f64() }));
        }
        kernels
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    pub fn kernels() -> Vec<(&'static str, usize, fn())> {
        Vec::new()
    }
}

fn main() {
    for (name, lanes, kernel) in x86::kernels() {
        for threads in [1, 2] {
            let pool = Threads::new(threads);
            let mut rates: Vec<f64> = (0..15)
                .map(|_| {
                    let begin = Instant::now();
                    pool.broadcast(kernel);
                    let operations = 2 * lanes * CHAINS * STEPS * threads;
                    operations as f64 / begin.elapsed().as_secs_f64() / 1e9
                })
                .collect();
            rates.sort_by(f64::total_cmp);
            let median = black_box(rates[rates.len() / 2]);
            println!("{name}, {threads} threads: {median:.0} GFLOP/s");
        }
    }
}
