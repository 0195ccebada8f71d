//! What the fuzz targets are given goes through the same functions here, on the stable toolchain, and
//! the memory that it takes is measured. See `fuzz/`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use allocation_counter::measure;

#[path = "../../fuzz/inputs.rs"]
mod inputs;

/// Memory that an input of any size may take: buffers of readers, and models that are loaded once.
const ANY: usize = 1 << 20;

/// How many times its own size an input may take beyond that.
const TIMES: usize = 400;

/// The few megabytes that the arrays of a small archive may take in any case, and as much again
/// while they grow.
const ARRAYS: usize = 40 << 20;

fn files(input: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(input);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn no_input_of_the_corpus_panics_or_takes_memory_out_of_proportion() {
    for (input, run) in inputs::INPUTS {
        let files = files(input);
        assert!(!files.is_empty(), "{input} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            // What is made once is no business of the input's.
            run(b"");
            let begun = std::time::Instant::now();
            let found = measure(|| run(&bytes)).bytes_max as usize;
            println!(
                "{} {} {} {:?}",
                file.display(),
                bytes.len(),
                found,
                begun.elapsed()
            );
            let any = if input == "npz" { ARRAYS } else { ANY };
            let allowed = any + TIMES * bytes.len();
            assert!(
                found <= allowed,
                "{}: {} bytes take {found} bytes of memory, {allowed} are allowed",
                file.display(),
                bytes.len()
            );
        }
    }
}
