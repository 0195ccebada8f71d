//! Moments of a `.npy` file larger than the memory allowed. `MODALIGN_STREAM_MIB` sets the size of
//! the file in MiB, 256 without it:
//!
//! ```text
//! MODALIGN_STREAM_MIB=4096 cargo test --release -p modalign-covariance --features npy --test npy_memory -- --nocapture
//! ```

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use approx::assert_relative_eq;
use modalign_covariance::StreamingMoments;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use npyz::WriterBuilder;
use rand::{RngExt, SeedableRng, rngs::StdRng};

const WIDTH: usize = 64;
const BLOCK: usize = 4096;
const BLOCK_BYTES: usize = 4 * WIDTH * BLOCK;
const LIMIT_KIB: usize = 200 * 1024;

/// Blocks of random rows that drift from block to block, far from zero.
fn write(path: &Path, blocks: usize) {
    let mut rng = StdRng::seed_from_u64(1);
    let block: Vec<f32> = (0..BLOCK * WIDTH)
        .map(|_| rng.random_range(10.0..12.0))
        .collect();
    let mut writer = npyz::WriteOptions::<f32>::new()
        .default_dtype()
        .shape(&[(blocks * BLOCK) as u64, WIDTH as u64])
        .writer(BufWriter::new(File::create(path).unwrap()))
        .begin_nd()
        .unwrap();
    for index in 0..blocks {
        let drift = (index % 7) as f32 * 0.25;
        writer.extend(block.iter().map(|x| x + drift)).unwrap();
    }
    writer.finish().unwrap();
}

/// Calls `visit` with every block of rows, in `f64`.
fn for_each_block(path: &Path, mut visit: impl FnMut(ArrayView2<f64>)) {
    let mut file = File::open(path).unwrap();
    npyz::NpyHeader::from_reader(&mut file).unwrap();
    let mut bytes = vec![0; BLOCK_BYTES];
    while file.read_exact(&mut bytes).is_ok() {
        let entries: Vec<f64> = bytes
            .chunks_exact(4)
            .map(|entry| f64::from(f32::from_le_bytes(entry.try_into().unwrap())))
            .collect();
        visit(ArrayView2::from_shape((BLOCK, WIDTH), &entries).unwrap());
    }
}

fn two_pass_covariance(path: &Path, rows: f64) -> Array2<f64> {
    let mut means = Array1::zeros(WIDTH);
    for_each_block(path, |block| means += &(block.sum_axis(Axis(0)) / rows));
    let mut scatter = Array2::zeros((WIDTH, WIDTH));
    for_each_block(path, |block| {
        let centered = &block - &means;
        scatter += &centered.t().dot(&centered);
    });
    scatter / (rows - 1.0)
}

/// The most memory that this process ever had, in KiB; None where the system does not say.
fn peak_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_file_beyond_the_memory_allowed_has_its_two_pass_covariance() {
    let mib = std::env::var("MODALIGN_STREAM_MIB").map_or(256, |mib| mib.parse().unwrap());
    let blocks = mib * (1 << 20) / BLOCK_BYTES;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    write(&path, blocks);

    let mut seen = Vec::new();
    let moments = StreamingMoments::<f32>::from_npy(&path, |rows, total| {
        seen.push(rows);
        assert_eq!(total, (blocks * BLOCK) as u64);
    })
    .unwrap();
    assert!(seen.is_sorted() && seen.len() > 1);
    assert_eq!(seen.last(), Some(&((blocks * BLOCK) as u64)));

    if let Some(peak) = peak_kib() {
        writeln!(
            std::io::stdout(),
            "{mib} MiB file, {peak} KiB resident at most"
        )
        .unwrap();
        assert!(peak < LIMIT_KIB, "{peak} KiB");
    }
    let expected = two_pass_covariance(&path, (blocks * BLOCK) as f64);
    let found = moments.covariance(1).unwrap().mapv(f64::from);
    assert_relative_eq!(found, expected, epsilon = 1e-6, max_relative = 1e-5);
}
