//! The program as a person meets it: its output, its files, its refusals.

#![allow(clippy::unwrap_used)]

#[path = "cli/bad_inputs.rs"]
mod bad_inputs;
#[path = "cli/place.rs"]
mod place;
#[path = "cli/resume.rs"]
mod resume;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use modalign::data::{Dataset, ReadOptions, Split, read};
use ndarray::{Array3, Axis, s};
use serde_json::Value;

use place::*;

fn splits(dataset: &mut Dataset) -> [&mut Split; 3] {
    [&mut dataset.train, &mut dataset.valid, &mut dataset.test]
}

/// A training that takes a moment.
fn quick(more: &str) -> String {
    format!("train --data small.npz --seeds 1,2 --epochs 3 {more}")
}

#[test]
fn training_prints_a_table_and_writes_a_folder() {
    let place = Place::with_data();
    let table = place.succeed(&quick(""));
    for expected in [
        "validation",
        "test",
        "best constant",
        "MAE",
        "Non0_F1_score",
        "mean ± population standard deviation over 2 seeds (1, 2)",
        "chosen by validation MAE; the test split was read once",
        "runs/small-1/report.html",
    ] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    assert!(!table.contains('\u{1b}'), "no colours in a pipe: {table}");

    let names: Vec<_> = files(&place.path("runs/small-1")).into_keys().collect();
    let expected = [
        "best.safetensors",
        "checkpoints/seed-1.safetensors",
        "checkpoints/seed-2.safetensors",
        "config.toml",
        "history.csv",
        "metrics.json",
        "predictions.csv",
        "report.html",
        "train.log",
    ];
    assert_eq!(names, expected.map(PathBuf::from));

    let metrics = place.json("runs/small-1/metrics.json");
    let test = &metrics["test"]["MAE"];
    let number = |value: &Value| value.as_f64().unwrap();
    let seeds: Vec<_> = test["per_seed"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect();
    let (mean, std) = (number(&test["mean"]), number(&test["std"]));
    assert_eq!(seeds.len(), 2);
    assert!((mean - (seeds[0] + seeds[1]) / 2.0).abs() < 1e-12);
    assert!((std - (seeds[0] - seeds[1]).abs() / 2.0).abs() < 1e-12);
    assert!(table.contains(&format!("{mean:.4} ± {std:.4}")), "{table}");
    assert!(metrics["valid"]["Has0_acc_2"]["mean"].is_number());

    let records = |name: &str| -> Vec<csv::StringRecord> {
        let mut reader = csv::Reader::from_path(place.path(name)).unwrap();
        reader.records().map(Result::unwrap).collect()
    };
    assert_eq!(records("runs/small-1/history.csv").len(), 6);
    // The figure of metrics.json comes out of predictions.csv again.
    let errors: Vec<f64> = records("runs/small-1/predictions.csv")
        .iter()
        .filter(|row| &row[0] == "seed 2")
        .map(|row| (row[3].parse::<f64>().unwrap() - row[2].parse::<f64>().unwrap()).abs())
        .collect();
    assert_eq!(errors.len(), 40);
    let error = errors.iter().sum::<f64>() / 40.0;
    assert!((error - seeds[1]).abs() < 1e-6, "{error} {seeds:?}");

    let report = place.read("runs/small-1/report.html");
    assert!(report.matches("<svg").count() >= 10 && report.contains("Predicted against true"));
    assert!(report.contains("Gradient norm"));
    let header = place.read("runs/small-1/history.csv");
    assert!(header.lines().next().unwrap().contains(",gradient_norm,"));
    let report = report.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http://", "https://", "<script", "<link", "src="] {
        assert!(!report.contains(outside), "{outside}");
    }
    for (name, bytes) in files(&place.path("runs/small-1")) {
        let here = place.0.path().to_str().unwrap();
        assert!(!text(&bytes).contains(here), "{}", name.display());
    }

    // The next run gets the next number, and the configuration that was written is one.
    let again = "train --data small.npz --config runs/small-1/config.toml --quiet";
    assert!(place.succeed(again).contains("runs/small-2/report.html"));
    assert_eq!(
        place.read("runs/small-1/metrics.json"),
        place.read("runs/small-2/metrics.json")
    );
}

#[test]
fn equal_seeds_give_equal_bytes_whatever_the_threads() {
    let place = Place::with_data();
    for (output, threads) in [("a", 2), ("b", 2), ("c", 1)] {
        place.succeed(&quick(&format!("--output {output} --threads {threads}")));
    }
    let without_log = |name: &str| {
        let mut files = files(&place.path(name));
        assert!(files.remove(Path::new("train.log")).is_some());
        files
    };
    let first = without_log("a");
    assert_eq!(first.len(), 8);
    for other in ["b", "c"] {
        for (name, bytes) in without_log(other) {
            assert!(
                first[&name] == bytes,
                "{} differs in {other}",
                name.display()
            );
        }
    }
    place.succeed("train --data small.npz --seeds 3,2 --epochs 3 --output d");
    let other_seed = &without_log("d")[Path::new("metrics.json")];
    assert!(first[Path::new("metrics.json")] != *other_seed);
}

#[test]
fn quiet_says_nothing_but_the_result_and_a_pipe_gets_plain_lines() {
    let place = Place::with_data();
    let quiet = place.run(&quick("--quiet"));
    assert!(quiet.status.success());
    assert_eq!(text(&quiet.stderr), "");
    let loud = place
        .command(&quick(""))
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let lines = text(&loud.stderr);
    assert!(
        lines.contains("80 training, 30 validation and 40 test rows"),
        "{lines}"
    );
    assert!(lines.contains("seed 1: 3 epochs, best "), "{lines}");
    assert!(
        !lines.contains('\u{1b}') && !lines.contains('\r'),
        "{lines}"
    );
}

#[test]
fn the_built_in_data_need_no_file() {
    let place = Place::empty();
    let table = place.succeed("train --seeds 1 --epochs 1 --quiet");
    assert!(table.contains("runs/generated-1/report.html"), "{table}");
    let lines = place.succeed("predict --model runs/generated-1");
    assert_eq!(lines.lines().count(), 686);
}

#[test]
fn lines_of_standard_input_are_scored_one_by_one() {
    let place = Place::with_data();
    place.succeed(&quick("--output run"));
    let lines = place.succeed("predict --model run --data small.npz");
    let expected: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let test = small().test;
    let line = |row: usize| {
        let mut fields = serde_json::Map::from_iter([("note".to_owned(), "x".into())]);
        for (key, sequences) in &test.features {
            let steps = s![row, ..sequences.lengths[row], ..];
            let steps: Vec<Vec<f32>> = sequences
                .values
                .slice(steps)
                .outer_iter()
                .map(|step| step.to_vec())
                .collect();
            fields.insert(key.clone(), steps.into());
        }
        if row > 0 {
            fields.insert("id".to_owned(), test.id[row].clone().into());
        }
        Value::from(fields).to_string()
    };
    let score = |input: String| {
        let mut command = place.command("predict --model run --stdin");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The program may end before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let output = score(format!("{}\n\n{}\n", line(0), line(1)));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["id"], "line_1");
    assert_eq!(found[1]["id"], test.id[1]);
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.get("label").is_none());
        let score = |line: &Value| line["fused"].as_f64().unwrap();
        assert!((score(found) - score(expected)).abs() < 1e-5);
        assert!(found["explanation"].as_str().unwrap().contains("vision"));
    }

    for (bad, reason) in [
        ("{".to_owned(), "not a JSON object"),
        (r#"{"text": [[1, 2]]}"#.to_owned(), "no audio"),
        (
            line(2).replace("\"audio\"", "\"sound\""),
            "no audio; the model reads text, audio",
        ),
        (
            r#"{"text": [[1, 2], [3]]}"#.to_owned(),
            "text: step 1 has 1 numbers, step 0 has 2",
        ),
        (
            r#"{"text": [[1, "a"]]}"#.to_owned(),
            "text: step 0 has \"a\", expected a number",
        ),
    ] {
        let output = score(format!("{}\n{bad}\n{}\n", line(0), line(1)));
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains("standard input, line 2"), "{error}");
        assert!(error.contains(reason), "{error}");
        assert_eq!(text(&output.stdout).lines().count(), 1);
    }
    assert!(
        place
            .refuse("predict --model run --stdin --split all")
            .contains("cannot be used")
    );
}

#[test]
fn a_model_predicts_and_is_evaluated() {
    let place = Place::with_data();
    place.succeed(&quick("--output run"));

    let lines = place.succeed("predict --model run --data small.npz");
    let rows: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 40);
    for row in &rows {
        let fused = row["fused"].as_f64().unwrap();
        for modality in ["text", "audio", "vision"] {
            let own = row["unimodal"][modality].as_f64().unwrap();
            let pull = row["pull"][modality].as_f64().unwrap();
            assert!((own - fused - pull).abs() < 1e-5, "{row}");
            assert!(
                row["explanation"].as_str().unwrap().contains(modality),
                "{row}"
            );
        }
    }

    let columns = place
        .succeed("predict --model run/best.safetensors --data small.npz --split all --format csv");
    let mut reader = csv::Reader::from_reader(columns.as_bytes());
    let header: Vec<_> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    let expected = "id,label,fused,text,audio,vision,pull_text,pull_audio,pull_vision,explanation";
    assert_eq!(header.join(","), expected);
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 150);
    // The test rows come last.
    let last = rows.last().unwrap();
    assert_eq!(&records[149][0], last["id"].as_str().unwrap());
    assert_eq!(&records[149][2], last["fused"].to_string());

    let to_file = "predict --model run --data small.npz --output scores.jsonl";
    assert_eq!(place.succeed(to_file), "");
    assert_eq!(place.read("scores.jsonl"), lines);
    assert!(
        place
            .refuse(to_file)
            .contains("scores.jsonl exists already")
    );

    let metrics = place.json("run/metrics.json");
    for (index, seed) in [1, 2].into_iter().enumerate() {
        for split in ["test", "valid"] {
            let table = place.succeed(&format!(
                "evaluate --model run/checkpoints/seed-{seed}.safetensors --data small.npz \
                 --split {split}"
            ));
            let error = metrics[split]["MAE"]["per_seed"][index].as_f64().unwrap();
            let row = table.lines().find(|line| line.starts_with(" MAE")).unwrap();
            assert!(row.contains(&format!("{error:.4}")), "{error} {row}");
        }
    }
    let train = place.succeed("evaluate --model run --data small.npz --split train");
    assert!(train.contains("80 rows"), "{train}");
}

#[test]
fn inspecting_shows_shapes_labels_and_bad_values() {
    let place = Place::with_data();
    let shown = place.succeed("inspect small.npz");
    for expected in [
        "small.npz: an npz archive",
        "80 × 6 × 5",
        "train/vision",
        "█",
        "labels of test",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let holes = changed(|data| {
        let audio = &mut data.valid.features["audio"].values;
        audio[[3, 0, 1]] = f32::NAN;
        audio[[4, 0, 2]] = f32::NEG_INFINITY;
    });
    place.write("holes.npz", &holes);
    let shown = place.succeed("inspect holes.npz");
    let row = shown
        .lines()
        .find(|line| line.contains("valid/audio"))
        .unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    // The last columns are: empty, NaN, inf, -inf, cleared.
    assert_eq!(cells[cells.len() - 5..], ["0", "1", "0", "1", "0"], "{row}");

    let trained = place.run("train --data holes.npz --seeds 1 --epochs 1");
    let said = text(&trained.stderr);
    assert!(
        said.contains("valid/audio: 1 NaN, 0 inf and 1 -inf set to 0"),
        "{said}"
    );
}

#[test]
fn cross_validation_trains_a_model_a_fold_and_seed() {
    let place = Place::with_data();
    let table = place.succeed(&quick("--folds 3 --text-only --output folds"));
    assert!(table.contains("over 3 folds, 2 seeds (1, 2)"), "{table}");
    assert_eq!(
        place.json("folds/metrics.json")["runs"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    assert!(
        place
            .path("folds/checkpoints/fold-3-seed-2.safetensors")
            .is_file()
    );
    assert!(
        place
            .read("folds/config.toml")
            .contains("modalities = [\"text\"]")
    );
}

#[test]
fn what_is_switched_off_is_off() {
    let place = Place::with_data();
    place.succeed(&quick(
        "--no-shared-information --no-label-generator --output reduced",
    ));
    let mut history = csv::Reader::from_path(place.path("reduced/history.csv")).unwrap();
    let header = history.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    assert_eq!(column("labels_text_q50"), None);
    for row in history.records().map(Result::unwrap) {
        assert_eq!(&row[column("loss_shared_information").unwrap()], "0");
        assert_eq!(
            row[column("loss").unwrap()],
            row[column("loss_fused").unwrap()]
        );
    }
    assert!(
        place
            .read("reduced/report.html")
            .contains("The label generator was off.")
    );
}

#[test]
fn an_ablation_compares_the_variants() {
    let place = Place::with_data();
    let table = place.succeed("ablate --data small.npz --seeds 1,2 --epochs 2 --quiet");
    let markdown = place.read("runs/small-ablation-1/ablation.md");
    let json = place.json("runs/small-ablation-1/ablation.json");
    let names = [
        "full",
        "text only",
        "no shared information",
        "no label generator",
    ];
    for (index, name) in names.into_iter().enumerate() {
        let variant = &json["variants"][index];
        assert_eq!(variant["name"], name);
        let mean = variant["test"]["MAE"]["mean"].as_f64().unwrap();
        for table in [&table, &markdown] {
            let row = table.lines().find(|line| line.contains(name)).unwrap();
            assert!(row.contains(&format!("{mean:.4} ± ")), "{mean} {row}");
        }
    }
    assert!(markdown.contains("| best constant | "), "{markdown}");
}

#[test]
fn npz_is_converted_to_the_same_data() {
    let place = Place::with_data();
    place.succeed("convert small.npz copy.npz");
    let read = |name: &str| read(place.path(name), &ReadOptions::default()).unwrap().0;
    assert_eq!(read("copy.npz"), read("small.npz"));
    let again = place.refuse("convert small.npz copy.npz");
    assert!(again.contains("copy.npz exists already"), "{again}");
}

#[test]
fn every_preset_is_a_configuration_that_trains() {
    let place = Place::with_data();
    // Labels of CH-SIMS are within ±1.
    let narrow = changed(|data| {
        for split in splits(data) {
            split.labels /= 3.0;
        }
    });
    place.write("narrow.npz", &narrow);
    for (preset, data) in [
        ("mosi", "small.npz"),
        ("mosei", "small.npz"),
        ("sims", "narrow.npz"),
    ] {
        for recipe in ["modalign", "self_mm"] {
            let printed = place.succeed(&format!("config --preset {preset} --recipe {recipe}"));
            assert!(
                printed.contains(&format!("convention = \"{preset}\"")),
                "{printed}"
            );
            place.write_text("preset.toml", &printed);
            let output = format!("{preset}-{recipe}");
            place.succeed(&format!(
                "train --data {data} --config preset.toml --seeds 1 --epochs 1 --output {output}"
            ));
            let written = place.read(&format!("{output}/config.toml"));
            let lines = printed.lines().zip(written.lines());
            let changed: Vec<_> = lines.filter(|(before, after)| before != after).collect();
            let changed: Vec<_> = changed.into_iter().map(|(_, after)| after).collect();
            assert_eq!(changed, ["seeds = [1]", "max_epochs = 1"]);
            assert_eq!(printed.lines().count(), written.lines().count());
        }
    }
}

#[test]
fn flags_and_set_change_the_configuration() {
    let place = Place::with_data();
    place.write_text("mine.toml", "[training]\nbatch_size = 16\nmax_epochs = 2\n");
    place.succeed(
        "train --data small.npz --config mine.toml --seeds 7 --modalities text,audio \
         --set modalities.text.learning_rate=0.002 --set training.max_epochs=1 \
         --set modalities.audio.encoder={kind=\"lstm\",hidden_size=4,output_size=4} --output run",
    );
    let config: toml::Table = place.read("run/config.toml").parse().unwrap();
    assert_eq!(config["training"]["batch_size"].as_integer(), Some(16));
    assert_eq!(config["training"]["max_epochs"].as_integer(), Some(1));
    assert_eq!(config["seeds"].as_array().unwrap().len(), 1);
    assert_eq!(config["data"]["modalities"].as_array().unwrap().len(), 2);
    assert_eq!(
        config["modalities"]["text"]["learning_rate"].as_float(),
        Some(0.002)
    );
    assert_eq!(
        config["modalities"]["audio"]["encoder"]["kind"].as_str(),
        Some("lstm")
    );
}

#[test]
fn a_file_names_the_preset_it_starts_from() {
    let place = Place::empty();
    let narrow = changed(|data| {
        for split in splits(data) {
            split.labels /= 3.0;
        }
    });
    place.write("small.npz", &narrow);
    place.write_text("sims.toml", "[data]\nconvention = \"sims\"\n");
    place.succeed(&quick("--config sims.toml --output run"));
    let config: toml::Table = place.read("run/config.toml").parse().unwrap();
    assert_eq!(
        config["label_generator"]["label_limit"].as_float(),
        Some(1.0)
    );
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let place = Place::empty();
    let mut command = place.command("config");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn every_command_explains_itself() {
    let place = Place::empty();
    let all = place.succeed("--help");
    for command in [
        "train", "evaluate", "predict", "inspect", "config", "ablate", "convert",
    ] {
        assert!(all.contains(command), "{all}");
        let help = place.succeed(&format!("{command} --help"));
        assert!(
            help.contains("Examples:") && help.contains("Usage: modalign"),
            "{help}"
        );
    }
}

#[test]
fn gradients_are_checked_on_the_data_and_the_configuration_at_hand() {
    let place = Place::with_data();
    let line = quick("--check-gradients --set objective.shared_information_weight=50.0");
    let table = place.succeed(&line);
    for part in ["audio.encoder.lstm", "fusion.l3.bias", "arrays agree"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(!table.contains("differs"), "{table}");
    assert!(!place.path("runs").exists(), "nothing is trained");
}

#[test]
fn bad_arguments_are_refused() {
    let place = Place::with_data();
    fs::create_dir(place.path("there")).unwrap();
    for (line, expected) in [
        ("trian".to_owned(), "'trian'"),
        ("train --preset mosy".to_owned(), "'mosy'"),
        (
            "train --modalities text,auido".to_owned(),
            "text, audio and vision",
        ),
        ("train --set batch_size".to_owned(), "key=value"),
        (quick("--threads 0"), "--threads 0: at least one"),
        (quick("--folds 2"), "at least 3"),
        (quick("--output there"), "there exists already"),
    ] {
        let error = place.refuse(&line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    assert!(files(&place.path("there")).is_empty());
    assert!(!place.path("runs/small-1").exists());
}

#[test]
fn a_bad_configuration_is_refused_with_the_key_that_was_meant() {
    let place = Place::with_data();
    for (content, expected) in [
        (
            "[training]\nbatch_sizes = 3",
            "unknown key training.batch_sizes, did you mean `batch_size`?",
        ),
        (
            "[trainin]\nx = 3",
            "unknown key trainin, did you mean `training`?",
        ),
        (
            "[modalities.audio]\nlerning_rate = 0.1",
            "unknown key modalities.audio.lerning_rate, did you mean `learning_rate`?",
        ),
        (
            "[modalities.audio.encoder]\nouput_size = 3",
            "did you mean `output_size`?",
        ),
        ("[data]\nconvention = \"mossi\"", "did you mean `mosi`?"),
        (
            "[training]\nbatch_size = \"many\"",
            "training.batch_size: invalid type: string \"many\"",
        ),
        (
            "[training]\nbatch_size = 0",
            "training.batch_size must be at least 1, found 0",
        ),
        (
            "[training]\npatience = 3\npatience = 4",
            "line 3: duplicate key",
        ),
        (
            "[data]\nmodalities = [\"text\", \"text\"]",
            "data.modalities must be",
        ),
    ] {
        place.write_text("bad.toml", content);
        let error = place.refuse(&quick("--config bad.toml"));
        assert!(error.contains(expected), "{content}: {error}");
    }
    for (line, expected) in [
        ("--config absent.toml", "absent.toml: No such file"),
        (
            "--set objective.shared_informaton_weight=1",
            "--set objective.shared_informaton_weight: unknown key \
             objective.shared_informaton_weight, did you mean `shared_information_weight`?",
        ),
        (
            "--set training.batch_size.x=1",
            "training.batch_size: invalid type",
        ),
        ("--text-features text_minilm", "text_minilm"),
    ] {
        let error = place.refuse(&quick(line));
        assert!(error.contains(expected), "{line}: {error}");
    }
    assert!(
        !place.path("runs").exists(),
        "nothing is written for what is refused"
    );
}

#[test]
fn bad_data_are_refused_with_the_place() {
    let place = Place::empty();
    let cases: [(Dataset, &[&str]); 6] = [
        (
            changed(|data| drop(data.valid.features.swap_remove("audio"))),
            &["bad.npz: split valid has no audio"],
        ),
        (
            changed(|data| data.train.labels[3] = f32::NAN),
            &["train/regression_labels", "row 3", "NaN"],
        ),
        (
            changed(|data| data.test = data.test.select(&[]).unwrap()),
            &["test", "no rows"],
        ),
        (
            changed(|data| data.valid.features["vision"].lengths[2] = 99),
            &["valid/vision", "row 2 has length 99", "5 steps"],
        ),
        (
            changed(|data| {
                let audio = &mut data.test.features["audio"].values;
                *audio = audio.slice(s![.., .., ..3]).to_owned();
            }),
            &["test/audio has width 3, train/audio has 5"],
        ),
        (
            changed(|data| {
                let text = &mut data.train.features["text"];
                text.values = text.values.select(Axis(0), &[0, 1, 2]);
                text.lengths.truncate(3);
            }),
            &["train/text", "has 3 rows", "80"],
        ),
    ];
    for (dataset, expected) in cases {
        place.write("bad.npz", &dataset);
        let error = place.refuse("train --data bad.npz --seeds 1 --epochs 1");
        for part in expected {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!place.path("runs/bad-1").exists(), "{error}");
    }
}

#[test]
fn files_that_are_no_data_are_refused() {
    let place = Place::with_data();
    let whole = fs::read(place.path("small.npz")).unwrap();
    fs::write(place.path("cut.npz"), &whole[..whole.len() / 2]).unwrap();
    place.write_text("words.pkl", "these are words");
    for (name, expected) in [
        ("absent.npz", "No such file"),
        ("cut.npz", "cut.npz: "),
        ("words.pkl", "not an .npz archive and not a pickle"),
    ] {
        for command in ["train --data", "inspect"] {
            let error = place.refuse(&format!("{command} {name}"));
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
    }
}

#[test]
fn a_pickle_that_calls_something_is_refused_and_nothing_runs() {
    let place = Place::empty();
    let program = format!("touch {}", place.path("ran").display());
    let mut pickle = b"\x80\x02cos\nsystem\nX".to_vec();
    pickle.extend(u32::try_from(program.len()).unwrap().to_le_bytes());
    pickle.extend(program.as_bytes());
    pickle.extend(b"\x85R.");
    fs::write(place.path("evil.pkl"), pickle).unwrap();
    for line in [
        "inspect evil.pkl",
        "train --data evil.pkl",
        "convert evil.pkl good.npz",
    ] {
        let error = place.refuse(line);
        assert!(error.contains("os.system"), "{error}");
    }
    assert!(!place.path("ran").exists());
}

#[test]
fn a_bad_model_is_refused() {
    let place = Place::with_data();
    place.succeed(&quick("--output run"));
    let whole = fs::read(place.path("run/best.safetensors")).unwrap();
    fs::write(place.path("cut.safetensors"), &whole[..whole.len() - 8]).unwrap();
    place.write_text(
        "words.safetensors",
        "these are words, and quite a few of them",
    );
    for (model, expected) in [
        ("absent", "neither a checkpoint file nor a run folder"),
        ("cut.safetensors", "cut.safetensors"),
        ("words.safetensors", "words.safetensors"),
    ] {
        let error = place.refuse(&format!("predict --model {model} --data small.npz"));
        assert!(error.contains(model) && error.contains(expected), "{error}");
    }

    let narrow = changed(|data| {
        for split in splits(data) {
            let text = &mut split.features["text"].values;
            *text = text.slice(s![.., .., ..7]).to_owned();
        }
    });
    place.write("narrow.npz", &narrow);
    let error = place.refuse("predict --model run --data narrow.npz");
    assert!(error.contains("12") && error.contains('7'), "{error}");
}
