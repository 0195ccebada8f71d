//! Bad inputs of every kind and what the program says about each, as `docs/bad-inputs.md` lists them.
//!
//! `MODALIGN_WRITE_DOCS=1` writes the list again.

use std::fmt::Write as _;

use modalign::core::{PARTIAL, Store};

use super::*;

/// The file that must say the same.
const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bad-inputs.md");

/// What is given to the program.
struct Case {
    /// What is wrong, in a few words.
    what: &'static str,
    line: String,
    stdin: Vec<u8>,
    /// What the message must contain: the place, what is expected there, what was found.
    says: &'static [&'static str],
}

fn case(what: &'static str, line: impl Into<String>, says: &'static [&'static str]) -> Case {
    Case {
        what,
        line: line.into(),
        stdin: Vec::new(),
        says,
    }
}

/// A configuration with one assignment.
fn set(what: &'static str, assignment: &str, says: &'static [&'static str]) -> Case {
    case(what, format!("train --set {assignment}"), says)
}

/// A line for `predict --stdin`.
fn scored(what: &'static str, content: impl Into<Vec<u8>>, says: &'static [&'static str]) -> Case {
    Case {
        stdin: content.into(),
        ..case(what, "predict --model run --stdin", says)
    }
}

fn trained(what: &'static str, file: &str, says: &'static [&'static str]) -> Case {
    case(what, format!("train --data {file}"), says)
}

/// A pickle of three equal splits, whose values are programs.
fn pickle(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut program = b"\x80\x04}".to_vec();
    for split in ["train", "valid", "test"] {
        program.extend(word(split));
        program.push(b'}');
        for (key, value) in entries {
            program.extend(word(key));
            program.extend(value);
            program.push(b's');
        }
        program.push(b's');
    }
    program.push(b'.');
    program
}

fn word(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[0x8c, length], text.as_bytes()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [b"](".to_vec(), items.concat(), b"e".to_vec()].concat()
}

fn floats(values: &[f64]) -> Vec<u8> {
    let items: Vec<_> = values
        .iter()
        .map(|value| [&b"G"[..], &value.to_be_bytes()].concat())
        .collect();
    list(&items)
}

/// Writes everything that the cases name.
fn prepare(place: &Place) {
    place.succeed("train --data small.npz --seeds 1 --epochs 1 --quiet --output run");
    fs::create_dir(place.path("empty")).unwrap();
    let bytes = |name: &str, content: &[u8]| fs::write(place.path(name), content).unwrap();
    let corpus = |name: &str, file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        bytes(name, &fs::read(path.join(file)).unwrap());
    };

    for (name, content) in [
        ("key.toml", "[training]\nbatch_sizes = 3\n"),
        ("section.toml", "[trainin]\nbatch_size = 3\n"),
        ("type.toml", "[training]\nbatch_size = \"many\"\n"),
        ("twice.toml", "[training]\npatience = 3\npatience = 4\n"),
        ("syntax.toml", "[training]\nbatch_size == 3\n"),
        (
            "kind.toml",
            "[modalities.audio.encoder]\nkind = \"lstmm\"\n",
        ),
        ("convention.toml", "[data]\nconvention = \"mossi\"\n"),
        ("negative.toml", "[training]\nmax_epochs = -3\n"),
        ("empty.npz", ""),
        ("page.npz", "<!DOCTYPE html><html>"),
        (
            "pointer.pkl",
            "version https://git-lfs.github.com/spec/v1\n",
        ),
        (
            "words.safetensors",
            "these are words, and quite a few of them",
        ),
    ] {
        place.write_text(name, content);
    }
    bytes("features.hdf", b"\x89HDF\r\n\x1a\n");
    bytes("features.gz", b"\x1f\x8b\x08\0\0\0\0\0");
    bytes("latin.toml", b"# na\xefve\n");
    corpus("array.npz", "npy/audio.npy");
    corpus("bomb.npz", "npz/bomb.npz");
    corpus("overlapping.npz", "npz/overlapping.npz");
    corpus("promise.npz", "npz/promise.npz");
    corpus("axes.pkl", "pickle/axes.pkl");
    bytes("calls.pkl", b"\x80\x02cos\nsystem\n(S'true'\ntR.");
    corpus("large.safetensors", "checkpoint/large_hidden.safetensors");

    let whole = fs::read(place.path("small.npz")).unwrap();
    bytes("cut.npz", &whole[..whole.len() / 2]);
    let mut flipped = whole.clone();
    flipped[20_000] ^= 1;
    bytes("flipped.npz", &flipped);

    bytes("protocol.pkl", b"\x80\x06}.");
    bytes("none.pkl", b"\x80\x04N.");
    bytes("cut.pkl", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f");
    bytes("splits.pkl", b"\x80\x04}\x8c\x05train}s.");
    let labels = floats(&[0.0, 1.0]);
    bytes("keys.pkl", &pickle(&[("id", labels.clone())]));
    let words = list(&[word("good"), word("bad")]);
    bytes(
        "kind.pkl",
        &pickle(&[("regression_labels", words), ("audio", labels.clone())]),
    );
    let one = list(&[word("only")]);
    bytes(
        "rows.pkl",
        &pickle(&[
            ("regression_labels", labels.clone()),
            ("id", one),
            ("audio", labels.clone()),
        ]),
    );
    bytes(
        "shape.pkl",
        &pickle(&[("regression_labels", labels.clone()), ("audio", labels)]),
    );

    place.write("nan.npz", &changed(|data| data.train.labels[3] = f32::NAN));
    place.write("far.npz", &changed(|data| data.train.labels[3] = 1e6));
    place.write(
        "none.npz",
        &changed(|data| data.test = data.test.select(&[]).unwrap()),
    );
    place.write(
        "few.npz",
        &changed(|data| data.train = data.train.select(&[0]).unwrap()),
    );
    let absent = changed(|data| drop(data.valid.features.swap_remove("audio")));
    place.write("absent.npz", &absent);
    let length = changed(|data| data.valid.features["vision"].lengths[2] = 99);
    place.write("length.npz", &length);
    place.write(
        "width.npz",
        &changed(|data| {
            let audio = &mut data.test.features["audio"].values;
            *audio = audio.slice(s![.., .., ..3]).to_owned();
        }),
    );
    place.write(
        "rows.npz",
        &changed(|data| {
            let text = &mut data.train.features["text"];
            text.values = text.values.select(Axis(0), &[0, 1, 2]);
            text.lengths.truncate(3);
        }),
    );
    place.write(
        "infinite.npz",
        &changed(|data| data.train.features["audio"].values[[0, 0, 0]] = f32::INFINITY),
    );
    place.write(
        "mask.npz",
        &changed(|data| {
            for split in splits(data) {
                let rows = split.len();
                split.text_bert = Some(Array3::from_elem((rows, 3, 4), 7));
            }
        }),
    );
    place.write(
        "narrow.npz",
        &changed(|data| {
            for split in splits(data) {
                let text = &mut split.features["text"].values;
                *text = text.slice(s![.., .., ..7]).to_owned();
            }
        }),
    );

    let model = fs::read(place.path("run/best.safetensors")).unwrap();
    bytes("cut.safetensors", &model[..model.len() - 8]);
    let mut header = model.clone();
    header[9] ^= 0x80;
    bytes("header.safetensors", &header);
    let mut flipped = model.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    bytes("flipped.safetensors", &flipped);
    // Whoever writes such a weight writes the checksum that goes with it.
    let mut store = Store::from_bytes(&model, "best.safetensors").unwrap();
    let name = "model.vision.projection.linear.weight";
    let mut weight = store.array::<f32>(name).unwrap();
    weight[[0, 0]] = f32::NAN;
    store.insert(name, &weight);
    store.metadata.remove("sha256");
    store.metadata.insert("sha256".to_owned(), store.checksum());
    store.save(place.path("nan.safetensors")).unwrap();
    let mut length = model;
    length[..8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    bytes("length.safetensors", &length);
}

fn cases() -> Vec<(&'static str, Vec<Case>)> {
    let deep = format!("{{\"text\": {}", "[".repeat(400));
    vec![
        (
            "Arguments",
            vec![
                case("a misspelt command", "trian", &["'trian'", "'train'"]),
                case(
                    "an unknown preset",
                    "train --preset mosy",
                    &["--preset", "mosei", "'mosy'"],
                ),
                case(
                    "an unknown modality",
                    "train --modalities text,auido",
                    &["--modalities", "text, audio and vision", "'auido'"],
                ),
                case(
                    "an assignment without a value",
                    "train --set batch_size",
                    &["--set", "key=value", "'batch_size'"],
                ),
                case(
                    "a negative number",
                    "train --epochs=-1",
                    &["--epochs", "expected a whole number, 0 or above", "'-1'"],
                ),
                case(
                    "a word for a seed",
                    "train --seeds 1,x",
                    &["--seeds", "expected a whole number", "'x'"],
                ),
                case(
                    "no threads",
                    "train --threads 0",
                    &["--threads", "at least one", "0"],
                ),
                case(
                    "a state after no batches",
                    "train --keep-every 0",
                    &["--keep-every", "expected a whole number, 1 or above", "'0'"],
                ),
                case(
                    "too few folds",
                    "train --data small.npz --folds 2",
                    &["folds", "at least 3", "2"],
                ),
                case(
                    "more folds than rows",
                    "train --data small.npz --folds 1000",
                    &["folds", "150", "1000"],
                ),
                case(
                    "a folder that is there",
                    "train --output empty",
                    &["empty", "exists already"],
                ),
                case(
                    "a folder within a file",
                    "train --data small.npz --output small.npz/run",
                    &["small.npz/run", "File exists"],
                ),
                case(
                    "a file that is there",
                    "convert small.npz small.npz",
                    &["small.npz", "exists already"],
                ),
                case(
                    "a folder that is not there",
                    "convert small.npz absent/new.npz",
                    &["absent/new.npz", "No such file"],
                ),
                case("no model", "predict", &["--model", "required"]),
                case(
                    "an unknown format",
                    "predict --model run --format xml",
                    &["--format", "jsonl", "'xml'"],
                ),
                case(
                    "an unknown split",
                    "evaluate --model run --split dev",
                    &["--split", "valid", "'dev'"],
                ),
            ],
        ),
        (
            "Configurations",
            vec![
                case(
                    "no such file",
                    "train --config absent.toml",
                    &["absent.toml", "No such file"],
                ),
                case(
                    "not UTF-8",
                    "train --config latin.toml",
                    &["latin.toml", "UTF-8"],
                ),
                case(
                    "no TOML",
                    "train --config syntax.toml",
                    &["syntax.toml, line 2", "expected", "extra `=`"],
                ),
                case(
                    "a misspelt key",
                    "train --config key.toml",
                    &["key.toml", "`batch_size`", "training.batch_sizes"],
                ),
                case(
                    "a misspelt section",
                    "train --config section.toml",
                    &["section.toml", "`training`", "trainin"],
                ),
                case(
                    "a key that is there twice",
                    "train --config twice.toml",
                    &["twice.toml, line 3", "duplicate key"],
                ),
                case(
                    "a word for a number",
                    "train --config type.toml",
                    &["training.batch_size", "expected usize", "\"many\""],
                ),
                case(
                    "a negative number",
                    "train --config negative.toml",
                    &["training.max_epochs", "usize", "-3"],
                ),
                case(
                    "an unknown kind",
                    "train --config kind.toml",
                    &["modalities.audio.encoder", "`lstm`", "`lstmm`"],
                ),
                case(
                    "an unknown corpus",
                    "train --config convention.toml",
                    &["data.convention", "`mosi`", "`mossi`"],
                ),
                set(
                    "no batch",
                    "training.batch_size=0",
                    &["training.batch_size", "at least 1", "found 0"],
                ),
                set("no seed", "seeds=[]", &["seeds", "at least one", "none"]),
                set(
                    "a seed twice",
                    "seeds=[1,1]",
                    &["seeds", "each seed once", "[1, 1]"],
                ),
                set(
                    "no modality",
                    "data.modalities=[]",
                    &["data.modalities", "at least one", "none"],
                ),
                set(
                    "a modality twice",
                    "data.modalities=[\"text\",\"text\"]",
                    &["data.modalities", "each modality once", "Text, Text"],
                ),
                set(
                    "a negative rate",
                    "modalities.text.learning_rate=-1.0",
                    &["modalities.text.learning_rate", "above 0", "-1"],
                ),
                set(
                    "a rate that is no number",
                    "heads.learning_rate=nan",
                    &["heads.learning_rate", "above 0", "NaN"],
                ),
                set(
                    "everything dropped",
                    "fusion.dropout=1.0",
                    &["fusion", "in [0, 1)", "found 1"],
                ),
                set(
                    "a warm-up beyond the end",
                    "training.warm_up=1.5",
                    &["training.warm_up", "in [0, 1)", "1.5"],
                ),
                set(
                    "a bound that is no number",
                    "data.clip=nan",
                    &["data.clip", "above 0", "NaN"],
                ),
                set(
                    "no width",
                    "objective.shared_width=0",
                    &["objective.shared_width", "at least 1", "found 0"],
                ),
                set(
                    "a layer of astronomical width",
                    "fusion.hidden_size=1000000000000",
                    &["fusion", "at most 16777216", "1000000000000"],
                ),
                set(
                    "a model beyond memory",
                    "fusion.hidden_size=16777216",
                    &["the configuration", "memory holds", "parameters"],
                ),
                set(
                    "batches without a covariance",
                    "training.batch_size=1",
                    &[
                        "training.batch_size",
                        "above objective.shared_information.ddof",
                        "found 1",
                    ],
                ),
                case(
                    "no pretrained encoder",
                    "train --text-model absent",
                    &["absent/config.json", "not found", "expected a file"],
                ),
            ],
        ),
        (
            "Data files",
            vec![
                trained(
                    "no such file",
                    "absent.npz.gz",
                    &["absent.npz.gz", "No such file"],
                ),
                trained("a folder", "empty", &["empty", "directory"]),
                trained(
                    "an empty file",
                    "empty.npz",
                    &[
                        "empty.npz",
                        "not an .npz archive and not a pickle",
                        "it is empty",
                    ],
                ),
                trained(
                    "a web page",
                    "page.npz",
                    &["page.npz", "not an .npz", "web page"],
                ),
                trained(
                    "a pointer to a file",
                    "pointer.pkl",
                    &["pointer.pkl", "not an .npz", "Git LFS"],
                ),
                trained(
                    "another format",
                    "features.hdf",
                    &["features.hdf", "not an .npz", "HDF5"],
                ),
                trained(
                    "a compressed file",
                    "features.gz",
                    &["features.gz", "not an .npz", "gzip"],
                ),
                trained(
                    "a single array",
                    "array.npz",
                    &["array.npz", "not an .npz", "single .npy array"],
                ),
                trained(
                    "a file that is cut off",
                    "cut.npz",
                    &["cut.npz", "expected a whole zip archive"],
                ),
                trained(
                    "a flipped bit",
                    "flipped.npz",
                    &[
                        "flipped.npz: train/",
                        "the checksum that the archive states",
                        "other bytes",
                    ],
                ),
                trained(
                    "members that share bytes",
                    "overlapping.npz",
                    &["overlapping.npz", "same bytes"],
                ),
                case(
                    "an archive of zeros",
                    "inspect bomb.npz",
                    &["bomb.npz: test/audio", "at most 16777216", "24000024"],
                ),
                case(
                    "an array that promises more",
                    "inspect promise.npz",
                    &[
                        "promise.npz: train/audio",
                        "at most 16777216",
                        "bytes of memory",
                    ],
                ),
                trained(
                    "a pickle that runs a program",
                    "calls.pkl",
                    &["calls.pkl: at byte 2", "not data", "os.system"],
                ),
                trained(
                    "a pickle of a later protocol",
                    "protocol.pkl",
                    &["protocol.pkl: at byte 0", "0 to 5", "protocol 6"],
                ),
                trained(
                    "a pickle that is cut off",
                    "cut.pkl",
                    &[
                        "cut.pkl: at byte 2",
                        "9223372036854775807 more bytes",
                        "0 are there",
                    ],
                ),
                trained(
                    "a pickle of nothing",
                    "none.pkl",
                    &["none.pkl", "dictionary of splits"],
                ),
                trained(
                    "a shape of 500 axes",
                    "axes.pkl",
                    &["axes.pkl: at byte", "at most 64", "500 axes"],
                ),
                trained(
                    "a split that is missing",
                    "splits.pkl",
                    &["splits.pkl", "no split valid", "there are train"],
                ),
                trained(
                    "an array that is missing",
                    "keys.pkl",
                    &["keys.pkl: split train", "no regression_labels", "it has id"],
                ),
                trained(
                    "a feature in one split only",
                    "absent.npz",
                    &["absent.npz: split valid", "no audio", "it has"],
                ),
                case(
                    "text for labels",
                    "train --data kind.pkl --modalities audio",
                    &["train/regression_labels", "expected numbers", "|O"],
                ),
                case(
                    "one axis for a feature",
                    "train --data shape.pkl --modalities audio",
                    &["train/audio", "[N, T, D] or [N, D]", "[2]"],
                ),
                case(
                    "fewer names than labels",
                    "train --data rows.pkl --modalities audio",
                    &["train/id", "has 2", "1 rows"],
                ),
                trained(
                    "fewer rows than labels",
                    "rows.npz",
                    &["train/text", "has 80", "3 rows"],
                ),
                trained(
                    "a width that differs",
                    "width.npz",
                    &["test/audio", "train/audio has 5", "width 3"],
                ),
                trained(
                    "a length beyond the steps",
                    "length.npz",
                    &["valid/vision: row 2", "5 steps", "length 99"],
                ),
                trained(
                    "a label that is no number",
                    "nan.npz",
                    &["train/regression_labels: row 3", "expected", "NaN"],
                ),
                trained(
                    "a label out of all proportion",
                    "far.npz",
                    &["training row 3", "± ", "1000000"],
                ),
                trained(
                    "tokens in another order",
                    "mask.npz",
                    &["train/text_bert: row 0", "expected 0 or 1", "has 7"],
                ),
                trained(
                    "a split without rows",
                    "none.npz",
                    &["split test", "no rows", "at least one"],
                ),
                trained(
                    "one row to learn from",
                    "few.npz",
                    &["the train split", "2 are needed", "1 rows"],
                ),
                case(
                    "infinities that are to be refused",
                    "train --data infinite.npz --set data.non_finite=refuse",
                    &["train/audio", "not finite", "1 inf"],
                ),
                case(
                    "a column that is not there",
                    "inspect small.npz --label-column 3",
                    &["train/regression_labels", "1 columns", "label_column is 3"],
                ),
            ],
        ),
        (
            "Models",
            vec![
                case(
                    "no such model",
                    "predict --model absent",
                    &["absent", "best.safetensors", "neither"],
                ),
                case(
                    "a folder without a model",
                    "predict --model empty",
                    &["empty", "best.safetensors", "neither"],
                ),
                case(
                    "another file",
                    "predict --model words.safetensors",
                    &[
                        "words.safetensors",
                        "safetensors file",
                        "expected a header's length",
                    ],
                ),
                case(
                    "a model that is cut off",
                    "predict --model cut.safetensors",
                    &[
                        "cut.safetensors",
                        "safetensors file",
                        "expected as many bytes",
                    ],
                ),
                case(
                    "a flipped bit",
                    "predict --model flipped.safetensors",
                    &["flipped.safetensors: damaged", "expected sha256", "found"],
                ),
                case(
                    "a damaged header",
                    "predict --model header.safetensors",
                    &["header.safetensors", "safetensors file"],
                ),
                case(
                    "a header longer than the file",
                    "predict --model length.safetensors",
                    &[
                        "length.safetensors",
                        "safetensors file",
                        "expected a header's length",
                    ],
                ),
                case(
                    "a configuration that the file cannot hold",
                    "predict --model large.safetensors",
                    &[
                        "large.safetensors",
                        "hidden_size must be at least 1 and at most 16777216",
                        "2000000000000",
                    ],
                ),
                case(
                    "a weight that is no number",
                    "predict --model nan.safetensors",
                    &["nan.safetensors", "expected finite numbers", "NaN"],
                ),
                case(
                    "data of another width",
                    "predict --model run --data narrow.npz",
                    &["text", "12", "7"],
                ),
            ],
        ),
        (
            "Lines to score",
            vec![
                scored("no JSON", "words\n", &["line 1", "JSON", "column 1"]),
                scored(
                    "not UTF-8",
                    b"{\"text\": \"\xff\"}\n".as_slice(),
                    &["line 1", "UTF-8"],
                ),
                scored("a number alone", "\n7\n", &["line 2", "JSON object", "7"]),
                scored("too deep", deep, &["line 1", "recursion limit"]),
                scored(
                    "a modality that is missing",
                    "{\"text\": [1]}",
                    &["line 1", "text"],
                ),
                scored(
                    "a word for features",
                    "{\"text\": \"good\"}",
                    &["line 1: text", "expected an array", "found \"good\""],
                ),
                scored(
                    "a word for a number",
                    "{\"text\": [\"good\"]}",
                    &["line 1: text", "expected a number", "\"good\""],
                ),
                scored(
                    "a number for a step",
                    "{\"text\": [[1], 2]}",
                    &["line 1: text: step 1", "expected an array", "2"],
                ),
                scored(
                    "steps of two widths",
                    "{\"text\": [[1], [1, 2]]}",
                    &["line 1: text: step 1", "step 0 has 1", "2 numbers"],
                ),
                scored(
                    "a number beyond all",
                    "{\"text\": [1e999]}",
                    &["line 1", "out of range"],
                ),
                scored(
                    "features of another width",
                    line([1, 5, 4], "0"),
                    &["line 1: text", "12", "1"],
                ),
                scored(
                    "no steps",
                    "{\"text\": [], \"audio\": [], \"vision\": []}",
                    &["line 1: text", "12", "0"],
                ),
                scored(
                    "a number beyond f32",
                    line([12, 5, 4], "1e39"),
                    &["line 1: text, step 0", "a finite number", "inf"],
                ),
            ],
        ),
    ]
}

/// An utterance of one step a modality.
fn line(widths: [usize; 3], value: &str) -> String {
    let step = |width| format!("[{}]", vec![value; width].join(", "));
    let [text, audio, vision] = widths.map(step);
    format!("{{\"text\": {text}, \"audio\": {audio}, \"vision\": {vision}}}")
}

/// Runs a case and gives back the one sentence that the program says, without what differs from
/// machine to machine.
fn refusal(place: &Place, case: &Case) -> String {
    let mut child = place
        .command(&case.line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(&case.stdin);
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    let code = output.status.code();
    assert!(
        matches!(code, Some(1 | 2)),
        "{}: {code:?}: {said}",
        case.line
    );
    assert!(!said.contains("panicked"), "{}: {said}", case.line);
    assert!(output.stdout.is_empty(), "{}", case.line);
    let mut sentences = said
        .lines()
        .skip_while(|line| !line.starts_with("error: "))
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let first = sentences.next().unwrap_or_default();
    let message = sentences.fold(first.to_owned(), |message, more| message + " " + more);
    let folder = fs::canonicalize(place.0.path()).unwrap();
    let message = message.replace(&format!("{}/", folder.display()), "");
    let mut short = String::new();
    for word in message.split(' ') {
        let is_hash = word.len() >= 64 && word[..64].bytes().all(|byte| byte.is_ascii_hexdigit());
        // So does the name of a file that is not finished yet.
        let is_partial = word.contains(PARTIAL);
        short += if is_hash || is_partial { "…" } else { word };
        short.push(' ');
    }
    short.trim_end().trim_start_matches("error: ").to_owned()
}

#[test]
fn every_bad_input_of_the_list_gets_the_message_of_the_list() {
    let place = Place::with_data();
    prepare(&place);
    let mut missing = Vec::new();
    let mut count = 0;
    let mut sections = String::new();
    let mut section = |title: &str, rows: Vec<(Case, String)>| {
        let _ = write!(
            sections,
            "\n## {title}\n\n| input | message |\n| --- | --- |\n"
        );
        for (case, message) in rows {
            count += 1;
            for part in case.says {
                if !message.contains(part) {
                    missing.push(format!("{}: {part:?} is not in: {message}", case.line));
                }
            }
            let cell = |text: &str| text.replace('|', "\\|");
            let line = match case.stdin.is_empty() {
                true => case.line.clone(),
                false => {
                    let line = String::from_utf8_lossy(&case.stdin);
                    let start: String = line.trim().chars().take(40).collect();
                    start.replace('\u{fffd}', "\\xff")
                }
            };
            let _ = writeln!(
                sections,
                "| {}: `{}` | {} |",
                case.what,
                cell(&line),
                cell(&message)
            );
        }
    };
    for (title, cases) in cases() {
        let rows = cases.into_iter().map(|case| {
            let message = refusal(&place, &case);
            (case, message)
        });
        section(title, rows.collect());
    }
    section("Interruptions", interruptions(&place));

    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(count >= 60);
    let list = format!(
        "# Bad inputs\n\n{count} bad inputs and what the program says about each: the place, what is \
         expected there and what was found.\nA test writes this page, \
         `every_bad_input_of_the_list_gets_the_message_of_the_list` in\n\
         `crates/cli/tests/cli/bad_inputs.rs`, and fails when it differs;\n\
         `MODALIGN_WRITE_DOCS=1 cargo test -p modalign-cli --test cli bad_input` writes it again.\n\
         {sections}"
    );
    if std::env::var_os("MODALIGN_WRITE_DOCS").is_some() {
        fs::write(LIST, &list).unwrap();
    }
    let committed = fs::read_to_string(LIST).unwrap();
    assert!(
        committed == list,
        "docs/bad-inputs.md differs from:\n{list}"
    );
}

/// What is said when a training cannot go on.
fn interruptions(place: &Place) -> Vec<(Case, String)> {
    fs::remove_dir_all(place.path("run")).unwrap();
    stopped(place, LONG);
    let mut rows = Vec::new();
    let mut refused = |what, line: &str, says| {
        let case = case(what, line, says);
        let message = refusal(place, &case);
        rows.push((case, message));
    };
    refused(
        "no such run",
        "train --resume absent",
        &["absent", "No such file"],
    );
    refused(
        "a folder without a run",
        "train --resume empty",
        &[
            "empty",
            "expected the identity of a training",
            "no such file",
        ],
    );
    refused(
        "another number of epochs",
        "train --resume run --epochs 3",
        &["--epochs", "--resume"],
    );
    let config = place.read("run/config.toml");
    place.write_text("run/config.toml", &format!("{config}\n# changed\n"));
    refused(
        "a changed configuration",
        "train --resume run",
        &["run/config.toml", "expected the content", "found"],
    );
    place.write_text("run/config.toml", &config);
    refused(
        "other data",
        "train --resume run --data nan.npz",
        &["nan.npz", "expected the content", "found"],
    );
    fs::rename(place.path("small.npz"), place.path("moved.npz")).unwrap();
    refused(
        "a data file that is gone",
        "train --resume run",
        &["small.npz", "No such file"],
    );
    for path in states(place) {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    refused(
        "two damaged states",
        "train --resume run --data moved.npz --quiet",
        &["seed-1.a.state: damaged", "expected sha256", "found"],
    );
    place.write_text("run/state/run.json", "{}");
    refused(
        "a damaged identity",
        "train --resume run --data moved.npz",
        &["run/state/run.json", "missing field"],
    );
    rows
}
