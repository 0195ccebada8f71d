//! Tutorials and cookbook programs; run one with `cargo run -p modalign-examples --example <name>`.
