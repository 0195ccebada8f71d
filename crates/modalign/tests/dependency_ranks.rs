//! An edge between two crates of the workspace goes from a higher rank to a lower one only.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

const RANKS: [&[&str]; 6] = [
    &["modalign-core", "modalign-linalg"],
    &[
        "modalign-covariance",
        "modalign-labels",
        "modalign-metrics",
        "modalign-data",
        "modalign-nn",
    ],
    &["modalign-encoders", "modalign-fusion"],
    &["modalign-train"],
    &["modalign"],
    &["modalign-cli"],
];

/// Outside the ranks: other crates may use it in their tests, and it uses none of them.
const CHECKER: &str = "modalign-gradcheck";

/// One edge of the workspace: who, on whom, and whether tests alone need it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    for_tests: bool,
}

/// The published packages and the edges between them.
fn workspace() -> (BTreeSet<String>, Vec<Edge>) {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let published: Vec<_> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| {
            package
                .publish
                .as_ref()
                .is_none_or(|registries| !registries.is_empty())
        })
        .collect();
    let names: BTreeSet<_> = published
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let edges = published
        .iter()
        .flat_map(|package| {
            package.dependencies.iter().map(|dependency| Edge {
                from: package.name.to_string(),
                to: dependency.name.clone(),
                for_tests: dependency.kind == DependencyKind::Development,
            })
        })
        .filter(|edge| names.contains(&edge.to))
        .collect();
    (names, edges)
}

/// What is wrong with the edges, one sentence each.
fn violations(names: &BTreeSet<String>, edges: &[Edge]) -> Vec<String> {
    let rank = |name: &str| RANKS.iter().position(|row| row.contains(&name));
    let mut found: Vec<String> = names
        .iter()
        .filter(|name| *name != CHECKER && rank(name).is_none())
        .map(|name| format!("{name} has no rank"))
        .collect();
    for Edge {
        from,
        to,
        for_tests,
    } in edges
    {
        if to == CHECKER {
            if !for_tests {
                found.push(format!("{from} needs {CHECKER} outside its tests"));
            }
        } else if from == CHECKER {
            found.push(format!("{CHECKER} must stand alone, but needs {to}"));
        } else if rank(to) >= rank(from) {
            found.push(format!("{from} needs {to}, which is not of a lower rank"));
        }
    }
    found
}

#[test]
fn every_edge_goes_to_a_lower_rank() {
    let (names, edges) = workspace();
    assert!(
        names.contains("modalign-cli") && edges.len() > 20,
        "{names:?} {edges:?}"
    );
    assert_eq!(violations(&names, &edges), Vec::<String>::new());
}

#[test]
fn a_wrong_edge_is_found() {
    let (mut names, edges) = workspace();
    let edge = |from: &str, to: &str, for_tests| Edge {
        from: from.to_owned(),
        to: to.to_owned(),
        for_tests,
    };
    for (wrong, expected) in [
        (
            edge("modalign-labels", "modalign-covariance", false),
            "not of a lower rank",
        ),
        (
            edge("modalign-core", "modalign-train", true),
            "not of a lower rank",
        ),
        (edge("modalign-nn", CHECKER, false), "outside its tests"),
        (edge(CHECKER, "modalign-core", false), "must stand alone"),
    ] {
        let mut edges = edges.clone();
        edges.push(wrong);
        let found = violations(&names, &edges);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{found:?}");
    }
    names.insert("modalign-extra".to_owned());
    assert_eq!(violations(&names, &edges), ["modalign-extra has no rank"]);
}

/// Whoever wants the loss, the labels or the metrics alone gets no layer and no trainer.
#[test]
fn the_array_crates_stand_on_rank_0_alone() {
    let (_, edges) = workspace();
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| !edge.for_tests) {
        needs.entry(&edge.from).or_default().insert(&edge.to);
    }
    for name in ["modalign-covariance", "modalign-labels", "modalign-metrics"] {
        let mut reached = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for &lower in needs.get(next).into_iter().flatten() {
                if reached.insert(lower) {
                    open.push(lower);
                }
            }
        }
        assert!(
            reached.is_subset(&RANKS[0].iter().copied().collect()),
            "{name} reaches {reached:?}"
        );
    }
}

/// The facade names things and does nothing.
#[test]
fn the_facade_has_no_logic() {
    for (file, source) in [
        ("lib.rs", include_str!("../src/lib.rs")),
        ("prelude.rs", include_str!("../src/prelude.rs")),
        ("tutorial.rs", include_str!("../src/tutorial.rs")),
    ] {
        let statements: String = source
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//") && !line.starts_with("#!["))
            .collect::<Vec<_>>()
            .join(" ");
        for statement in statements
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            assert!(
                statement.starts_with("pub use ") || statement.starts_with("pub mod "),
                "{file}: {statement}"
            );
        }
    }
}
