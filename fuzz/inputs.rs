//! What a stranger's bytes go through: one function an input, for the fuzz targets and for the test
//! that sends the corpus through them.
//!
//! Each takes any bytes. A refusal is fine; a panic, an invariant that does not hold, or memory out
//! of proportion to the bytes is a finding.

use std::cell::RefCell;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use modalign_core::Store;
use modalign_covariance::StreamingMoments;
use modalign_data::{ReadOptions, Split, read};
use modalign_encoders::{BertConfig, BertEncoder, Pooling, TextTokenizer, TokenBatch};
use modalign_train::{Checkpoint, Predictor};
use ndarray::arr2;
use serde_json::Value;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// An input by its name, which is that of its folder in the corpus.
pub const INPUTS: [(&str, fn(&[u8])); 8] = [
    ("pickle", pickle),
    ("npz", npz),
    ("npy", npy),
    ("checkpoint", checkpoint),
    ("text_model", text_model),
    ("config", config),
    ("word_piece", word_piece),
    ("json_lines", json_lines),
];

/// A trained model of all three modalities, small.
static CHECKPOINT: &[u8] = include_bytes!("corpus/checkpoint/three_modalities.safetensors");

/// A vocabulary in the order of its numbers.
static VOCABULARY: &str = include_str!("corpus/word_piece/vocabulary.txt");

/// A file of MMSA's, or whatever says it is one.
pub fn pickle(bytes: &[u8]) {
    with_file("data.pkl", bytes, data_file);
}

/// An archive of arrays.
pub fn npz(bytes: &[u8]) {
    with_file("data.npz", bytes, data_file);
}

/// One `.npy` array, in every place in turn.
pub fn npy(bytes: &[u8]) {
    for place in 0..=REPLACED.len() {
        npy_in(place, bytes);
    }
}

/// One `.npy` array as an array of an archive, for a change of one within an archive ends at its
/// checksum, or by itself.
pub fn npy_in(place: usize, bytes: &[u8]) {
    match REPLACED.get(place) {
        Some(key) => with_file("data.npz", &archive(key, bytes), data_file),
        None => with_file("matrix.npy", bytes, |path| {
            drop(StreamingMoments::<f32>::from_npy(path, |_, _| ()));
            drop(StreamingMoments::<f64>::from_npy(path, |_, _| ()));
        }),
    }
}

/// The arrays of an archive whose place another one takes.
pub const REPLACED: [&str; 5] = [
    "audio",
    "regression_labels",
    "id",
    "text_bert",
    "text_lengths",
];

/// A trained model, as it is and with a checksum that fits, for a change of the content ends there.
pub fn checkpoint(bytes: &[u8]) {
    with_file("best.safetensors", bytes, trained_model);
    if let Ok(store) = Store::from_bytes(bytes, "bytes") {
        with_file("best.safetensors", &sealed(store), trained_model);
    }
}

fn trained_model(path: &Path) {
    if let Ok(checkpoint) = Checkpoint::load(path) {
        let config = checkpoint.config().clone();
        config
            .validate()
            .expect("a checkpoint's configuration is checked");
        let predictor = Predictor::new(checkpoint);
        drop(modalign_cli::score_lines(
            &predictor,
            UTTERANCE,
            std::io::sink(),
        ));
    }
}

/// The bytes of a store whose checksum fits.
pub fn sealed(mut store: Store) -> Vec<u8> {
    store.metadata.remove("sha256");
    let sum = store.checksum();
    store.metadata.insert("sha256".to_owned(), sum);
    store.to_bytes().expect("what was read can be written")
}

/// A pretrained text encoder: `config.json`, a line with nothing but `---`, `model.safetensors`.
pub fn text_model(bytes: &[u8]) {
    const BORDER: &[u8] = b"\n---\n";
    let border = bytes
        .windows(BORDER.len())
        .position(|window| window == BORDER);
    let (config, weights) = match border {
        Some(at) => (&bytes[..at], &bytes[at + BORDER.len()..]),
        None => (bytes, &[][..]),
    };
    FOLDER.with_borrow(|folder| {
        let folder = folder.path();
        fs::write(folder.join("config.json"), config).expect("there is room");
        fs::write(folder.join("model.safetensors"), weights).expect("there is room");
        drop(BertConfig::load(folder, Pooling::Cls));
        if let Ok(encoder) = BertEncoder::<f32>::load(folder, Pooling::Mean) {
            let batch = TokenBatch {
                ids: arr2(&[[1; 4], [2, 3, 0, 0]]),
                mask: arr2(&[[true; 4], [true, true, false, false]]),
                token_types: arr2(&[[0; 4]; 2]),
            };
            drop(encoder.infer(&batch));
        }
    });
}

/// A configuration in TOML.
pub fn config(bytes: &[u8]) {
    with_file("config.toml", bytes, |path| {
        drop(modalign_cli::configuration(path));
    });
}

/// A text for the tokeniser, or after `tokenizer.json` in braces or a vocabulary that begins with
/// `[PAD]`, the tokeniser itself.
pub fn word_piece(bytes: &[u8]) {
    const LONGEST: usize = 16;
    static TOKENIZER: LazyLock<TextTokenizer> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("there is room");
        fs::write(folder.path().join("vocab.txt"), VOCABULARY).expect("there is room");
        TextTokenizer::load(folder.path(), &bert(VOCABULARY.lines().count()), LONGEST)
            .expect("the vocabulary is sound")
    });
    let encode = |tokenizer: &TextTokenizer, vocabulary: usize, text: &str| {
        let Ok(encoded) = tokenizer.encode(&[text, "a b"]) else {
            return;
        };
        let batch = encoded.batch;
        assert!(batch.ids.iter().all(|&id| (id as usize) < vocabulary));
        assert_eq!(batch.ids.dim(), batch.mask.dim());
        assert!(batch.ids.ncols() <= LONGEST);
        let again = tokenizer.truncate(batch.clone()).expect("the arrays agree");
        assert_eq!(again.batch, batch);
    };
    let text = String::from_utf8_lossy(bytes);
    if text.starts_with('{') {
        for size in [4, 8, VOCABULARY.lines().count()] {
            if let Ok(tokenizer) = TextTokenizer::from_json("bytes", bytes, &bert(size), LONGEST) {
                encode(&tokenizer, size, "Hello, wörld! 你好 abcdefg\u{300}");
            }
        }
    } else if text.starts_with("[PAD]") {
        FOLDER.with_borrow(|folder| {
            fs::write(folder.path().join("vocab.txt"), bytes).expect("there is room");
            let size = text.lines().count();
            if let Ok(tokenizer) = TextTokenizer::load(folder.path(), &bert(size), LONGEST) {
                encode(&tokenizer, size, "Hello, wörld! 你好 abcdefg\u{300}");
            }
        });
    } else {
        encode(&TOKENIZER, VOCABULARY.lines().count(), &text);
    }
}

/// The lines that `predict --stdin` scores.
pub fn json_lines(bytes: &[u8]) {
    static PREDICTOR: LazyLock<Predictor> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("best.safetensors");
        fs::write(&path, CHECKPOINT).expect("there is room");
        Predictor::new(Checkpoint::load(&path).expect("the checkpoint is sound"))
    });
    let mut output = Vec::new();
    drop(modalign_cli::score_lines(&PREDICTOR, bytes, &mut output));
    for line in output
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: Value = serde_json::from_slice(line).expect("a line is JSON");
        assert!(
            line["id"].is_string() && line["fused"].is_number(),
            "{line}"
        );
        let own = line["unimodal"].as_object().expect("an object");
        assert!(
            own.len() == 3 && own.values().all(Value::is_number),
            "{line}"
        );
    }
}

/// An utterance that suits [`CHECKPOINT`].
static UTTERANCE: &[u8] =
    b"{\"text\": [[1, 2], [3, 4]], \"audio\": [[0.5, 1, -1]], \"vision\": [1, 2]}\n";

thread_local! {
    static FOLDER: RefCell<TempDir> =
        RefCell::new(tempfile::tempdir().expect("there is a folder for temporary files"));
}

fn with_file(name: &str, bytes: &[u8], visit: impl FnOnce(&Path)) {
    FOLDER.with_borrow(|folder| {
        let path: PathBuf = folder.path().join(name);
        fs::write(&path, bytes).expect("there is room");
        visit(&path);
    });
}

fn bert(vocabulary_size: usize) -> BertConfig {
    BertConfig {
        vocabulary_size,
        ..BertConfig::default()
    }
}

/// Reads with every feature in memory and with every feature in the file, and uses what was read.
fn data_file(path: &Path) {
    for in_file_above in [None, Some(0)] {
        let options = ReadOptions {
            in_file_above,
            ..ReadOptions::default()
        };
        let Ok((dataset, report)) = read(path, &options) else {
            continue;
        };
        assert_eq!(report.splits["train"].rows, dataset.train.len());
        for split in [&dataset.train, &dataset.valid, &dataset.test] {
            check(split);
        }
        drop(dataset.pool());
    }
}

/// What the reader promises of a split.
fn check(split: &Split) {
    let rows = split.len();
    assert!(rows > 0 && split.id.len() == rows);
    assert!(split.labels.iter().all(|label| label.is_finite()));
    for sequences in split.features.values() {
        assert_eq!(sequences.len(), rows);
        assert!(sequences.values.iter().all(|value| value.is_finite()));
        assert!(
            sequences
                .lengths
                .iter()
                .all(|length| (1..=sequences.steps()).contains(length))
        );
    }
    for sequences in split.file_features.values() {
        assert_eq!(sequences.len(), rows);
        let read = sequences
            .read(&[0, rows - 1])
            .expect("the file is still there");
        assert!(read.values.iter().all(|value| value.is_finite()));
    }
}

/// An archive of three sound splits in which `bytes` take the place of one array of each.
fn archive(replaced: &str, bytes: &[u8]) -> Vec<u8> {
    static ARRAYS: [(&str, &[u8]); 5] = [
        ("regression_labels", include_bytes!("corpus/npy/labels.npy")),
        ("id", include_bytes!("corpus/npy/ids.npy")),
        ("text", include_bytes!("corpus/npy/text.npy")),
        ("audio", include_bytes!("corpus/npy/audio.npy")),
        ("text_bert", include_bytes!("corpus/npy/text_bert.npy")),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for split in ["train", "valid", "test"] {
        let others = ARRAYS.iter().filter(|(key, _)| *key != replaced);
        for (key, content) in others.copied().chain([(replaced, bytes)]) {
            zip.start_file(format!("{split}/{key}.npy"), options)
                .expect("memory has room");
            zip.write_all(content).expect("memory has room");
        }
    }
    zip.finish().expect("memory has room").into_inner()
}
