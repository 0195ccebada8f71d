//! Code that the compiler cannot check stays in the one crate that calls kernels.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The sources of every crate.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// `forbid` does it where it can. The slices of ndarray are a macro that allows itself what a crate
/// denies, so the crates that use it deny, and this test sees that none of them allows.
#[test]
fn only_linalg_has_unsafe_code() {
    let sources = sources();
    assert!(sources.len() > 100);
    let mut blocks = 0;
    for path in sources {
        let inside = path.components().any(|part| part.as_os_str() == "linalg");
        // This file speaks of it.
        if path.ends_with("modalign/tests/unsafe_code.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        let count = words.filter(|word| *word == "unsafe").count();
        assert!(
            inside || count == 0,
            "{}: {count} times unsafe",
            path.display()
        );
        let allowed = text.contains("allow(unsafe_code)");
        assert!(inside || !allowed, "{}: allows unsafe code", path.display());
        blocks += count;
    }
    assert!(blocks > 0, "nothing was looked at");
}
