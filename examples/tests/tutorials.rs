//! Every tutorial runs, says what it is there to say, and stands in the tutorial page as it is.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo puts the programs of this package: next to the folder of this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(name)
}

fn output(name: &str) -> String {
    let path = program(name);
    assert!(
        path.exists(),
        "{} is not built; test the whole package: cargo test -p modalign-examples",
        path.display()
    );
    let output = Command::new(path).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The number after `words` in the first line that has them.
fn number(text: &str, words: &str) -> f64 {
    let rest = text
        .split(words)
        .nth(1)
        .unwrap_or_else(|| panic!("{words}: {text}"));
    let number = rest.split_whitespace().next().unwrap();
    number
        .parse()
        .unwrap_or_else(|_| panic!("{number}: {text}"))
}

#[test]
fn tutorial_01_shared_information() {
    let text = output("tutorial-01-shared-information");
    let (first, last) = (
        number(&text, "step   0: loss "),
        number(&text, "step 600: loss "),
    );
    assert!(first > 1.0 && last < 1e-4, "{text}");
    assert!(
        number(&text, "largest difference between them: ") < 0.05,
        "{text}"
    );
}

#[test]
fn tutorial_02_check_a_gradient() {
    let text = output("tutorial-02-check-a-gradient");
    for line in [
        "width 0.1: 4 entries agree",
        "refused: predictions: 4 of 4 entries differ, most of all [3]",
        "lenient check: passes",
        "default check: fails",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn tutorial_03_train_and_predict() {
    let text = output("tutorial-03-train-and-predict");
    // A constant prediction has an error of 1.26 on these rows.
    assert!(number(&text, "test MAE ") < 1.1, "{text}");
    let text_row: Vec<f64> = text
        .lines()
        .find_map(|line| line.strip_prefix("text "))
        .unwrap()
        .split_whitespace()
        .filter_map(|cell| cell.parse().ok())
        .collect();
    assert_eq!(text_row.len(), 4, "{text}");
    assert!(text_row[0] > 0.3 && text_row[1] > 0.5, "{text}");
    assert!(text.contains("test_0: label -1.8"), "{text}");
}

#[test]
fn the_tutorial_page_quotes_the_programs() {
    let page = include_str!("../../crates/modalign/src/tutorial.md");
    for program in [
        include_str!("../tutorial-01-shared-information.rs"),
        include_str!("../tutorial-02-check-a-gradient.rs"),
        include_str!("../tutorial-03-train-and-predict.rs"),
    ] {
        let first = program.lines().next().unwrap_or_default();
        assert!(
            page.contains(program),
            "the page has another version of: {first}"
        );
        assert!(program.lines().count() < 120, "too long: {first}");
    }
}
