//! Criterion benchmarks of the modalign crates; run them with `cargo bench -p modalign-benches`.
