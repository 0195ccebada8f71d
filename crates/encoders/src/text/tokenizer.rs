//! From text to tokens, as the pretrained model was taught.

use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer, TruncationParams};

use crate::text::config::{Architecture, BertConfig};
use crate::text::folder::{format_error, json, read, write};
use crate::{EncoderError, TokenBatch};

/// `[CLS]` and `[SEP]` frame every text, so one of three tokens is the text's own.
const SHORTEST: usize = 3;

/// The tokeniser of a Hugging Face folder.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    architecture: Architecture,
}

/// The tokens of texts, and how many texts lost some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedTexts {
    /// Padded to the longest.
    pub batch: TokenBatch,
    /// How many texts were longer than the tokeniser's limit and lost their ends.
    pub truncated: usize,
}

/// What `tokenizer_config.json` says of a `vocab.txt`.
#[derive(Deserialize)]
#[serde(default)]
struct WordPieceConfig {
    do_lower_case: bool,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: bool,
}

impl Default for WordPieceConfig {
    fn default() -> Self {
        Self {
            do_lower_case: true,
            strip_accents: None,
            tokenize_chinese_chars: true,
        }
    }
}

impl TextTokenizer {
    /// Reads `tokenizer.json`, or else `vocab.txt` with `tokenizer_config.json` if that is there, of
    /// the folder whose configuration is `config`.
    ///
    /// Texts are cut to `max_tokens`, `[CLS]` and `[SEP]` included: at least 3, at most
    /// [`config.longest_text()`](BertConfig::longest_text). RoBERTa has no `vocab.txt`, and `<s>` and
    /// `</s>` in the place of `[CLS]` and `[SEP]`.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] for a limit out of its range, [`EncoderError::Io`] or
    /// [`EncoderError::Format`] for a file that cannot be read, [`EncoderError::Vocabulary`] or
    /// [`EncoderError::SpecialToken`] for one that belongs to another model.
    pub fn load(
        folder: impl AsRef<Path>,
        config: &BertConfig,
        max_tokens: usize,
    ) -> Result<Self, EncoderError> {
        let folder = folder.as_ref();
        let (whole, words) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        if whole.exists() || config.architecture == Architecture::Roberta {
            let content = read(&whole)?;
            return Self::from_json(whole, &content, config, max_tokens);
        }
        let inner = word_piece(&words, &folder.join("tokenizer_config.json"))?;
        Self::new(words, inner, config, max_tokens)
    }

    /// From the content of a `tokenizer.json`, which errors say is in `path`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn from_json(
        path: impl Into<PathBuf>,
        content: &[u8],
        config: &BertConfig,
        max_tokens: usize,
    ) -> Result<Self, EncoderError> {
        let path = path.into();
        // The package panics on some content that is no JSON.
        serde_json::from_slice::<IgnoredAny>(content)
            .map_err(|error| format_error(&path, "tokenizer", error))?;
        let inner = Tokenizer::from_bytes(content)
            .map_err(|error| format_error(&path, "tokenizer", error))?;
        Self::new(path, inner, config, max_tokens)
    }

    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Text`] if the tokeniser cannot be written down.
    pub fn to_json(&self) -> Result<String, EncoderError> {
        let refused = |error: tokenizers::Error| EncoderError::Text {
            reason: error.to_string(),
        };
        self.inner.to_string(false).map_err(refused)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into an existing folder, for
    /// [`load`](Self::load) and `transformers`.
    ///
    /// # Errors
    ///
    /// As [`to_json`](Self::to_json), or [`EncoderError::Io`].
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), EncoderError> {
        let folder = folder.as_ref();
        write(&folder.join("tokenizer.json"), self.to_json()?.as_bytes())?;
        let longest = self.inner.get_truncation().map(|limit| limit.max_length);
        let [first, last] = self.architecture.frame();
        let [mask, padding, unknown] = match self.architecture {
            Architecture::Roberta => ["<mask>", "<pad>", "<unk>"],
            Architecture::Bert | Architecture::DistilBert => ["[MASK]", "[PAD]", "[UNK]"],
        };
        let config = serde_json::json!({
            "cls_token": first,
            "mask_token": mask,
            "model_max_length": longest,
            "pad_token": padding,
            "sep_token": last,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": unknown,
        });
        let path = folder.join("tokenizer_config.json");
        write(&path, format!("{config:#}\n").as_bytes())
    }

    /// Cuts tokens that another program made, with the same vocabulary, to this tokeniser's limit:
    /// a row that is too long keeps its first tokens and its last one, which ends every text.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Shape`] if the three arrays of the batch differ in shape.
    pub fn truncate(&self, mut batch: TokenBatch) -> Result<EncodedTexts, EncoderError> {
        batch.check()?;
        let limit = self
            .inner
            .get_truncation()
            .map_or(usize::MAX, |truncation| truncation.max_length);
        let mut truncated = 0;
        for row in 0..batch.mask.nrows() {
            let tokens: Vec<usize> = (0..batch.mask.ncols())
                .filter(|&column| batch.mask[[row, column]])
                .collect();
            if tokens.len() <= limit {
                continue;
            }
            truncated += 1;
            let (end, last) = (tokens[limit - 1], tokens[tokens.len() - 1]);
            batch.ids[[row, end]] = batch.ids[[row, last]];
            batch.token_types[[row, end]] = batch.token_types[[row, last]];
            for &column in &tokens[limit..] {
                batch.mask[[row, column]] = false;
            }
        }
        Ok(EncodedTexts { batch, truncated })
    }

    fn new(
        path: PathBuf,
        mut inner: Tokenizer,
        config: &BertConfig,
        max_tokens: usize,
    ) -> Result<Self, EncoderError> {
        crate::error::check_config(
            (SHORTEST..=config.longest_text()).contains(&max_tokens),
            "tokenizer",
            "max_tokens",
            "at least 3 and at most the positions that the model has",
            max_tokens as f64,
        )?;
        for token in config.architecture.frame() {
            special(&inner, &path, token)?;
        }
        let last = inner.get_vocab(true).into_values().max();
        let found = last.map_or(0, |last| last as usize + 1);
        if found != config.vocabulary_size {
            return Err(EncoderError::Vocabulary {
                path,
                expected: config.vocabulary_size,
                found,
            });
        }
        inner.with_padding(None);
        let truncation = TruncationParams {
            max_length: max_tokens,
            ..TruncationParams::default()
        };
        inner
            .with_truncation(Some(truncation))
            .map_err(|error| format_error(&path, "tokenizer", error))?;
        Ok(Self {
            inner,
            architecture: config.architecture,
        })
    }

    /// The tokens of every text, framed by the first and the last one.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Text`] if the tokeniser fails.
    pub fn encode(&self, texts: &[impl AsRef<str>]) -> Result<EncodedTexts, EncoderError> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings =
            self.inner
                .encode_batch(texts, true)
                .map_err(|error| EncoderError::Text {
                    reason: error.to_string(),
                })?;
        let longest = encodings.iter().map(|text| text.len()).max().unwrap_or(0);
        let shape = (encodings.len(), longest);
        let mut batch = TokenBatch {
            ids: Array2::zeros(shape),
            mask: Array2::default(shape),
            token_types: Array2::zeros(shape),
        };
        let mut truncated = 0;
        for (row, text) in encodings.iter().enumerate() {
            truncated += usize::from(!text.get_overflowing().is_empty());
            let tokens = text.get_ids().iter().zip(text.get_type_ids());
            for (position, (&id, &token_type)) in tokens.enumerate() {
                batch.ids[[row, position]] = id;
                batch.mask[[row, position]] = true;
                batch.token_types[[row, position]] = token_type;
            }
        }
        Ok(EncodedTexts { batch, truncated })
    }
}

fn special(inner: &Tokenizer, path: &Path, token: &'static str) -> Result<u32, EncoderError> {
    inner
        .token_to_id(token)
        .ok_or_else(|| EncoderError::SpecialToken {
            path: path.to_owned(),
            token,
        })
}

fn word_piece(path: &Path, config: &Path) -> Result<Tokenizer, EncoderError> {
    let form: WordPieceConfig = if config.exists() {
        json(config, &read(config)?)?
    } else {
        WordPieceConfig::default()
    };
    // The package reads the file itself, but says less about a missing one.
    read(path)?;
    let model = WordPiece::from_file(&path.to_string_lossy())
        .unk_token("[UNK]".to_owned())
        .build()
        .map_err(|error| format_error(path, "vocabulary", error))?;
    let mut inner = Tokenizer::new(model);
    let known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let known: Vec<_> = known
        .into_iter()
        .filter(|token| inner.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token, true))
        .collect();
    inner.add_special_tokens(&known);
    special(&inner, path, "[UNK]")?;
    let frame = BertProcessing::new(
        ("[SEP]".to_owned(), special(&inner, path, "[SEP]")?),
        ("[CLS]".to_owned(), special(&inner, path, "[CLS]")?),
    );
    let normalizer = BertNormalizer::new(
        true,
        form.tokenize_chinese_chars,
        form.strip_accents,
        form.do_lower_case,
    );
    inner
        .with_normalizer(Some(normalizer))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(frame));
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    const WORDS: [&str; 10] = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "so", "good", "un", "##so", "!",
    ];

    fn folder(words: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vocab.txt"), words.join("\n")).unwrap();
        folder
    }

    fn config(vocabulary_size: usize) -> BertConfig {
        BertConfig {
            vocabulary_size,
            positions: 6,
            ..BertConfig::default()
        }
    }

    #[test]
    fn words_are_split_framed_padded_and_cut() {
        let folder = folder(&WORDS);
        let tokenizer = TextTokenizer::load(folder.path(), &config(10), 6).unwrap();
        let texts = ["So GOOD!", "unso strange so so so", ""];
        let encoded = tokenizer.encode(&texts).unwrap();
        assert_eq!(
            encoded.batch.ids,
            array![[2, 5, 6, 9, 3, 0], [2, 7, 8, 1, 5, 3], [2, 3, 0, 0, 0, 0]]
        );
        let lengths: Vec<_> = encoded
            .batch
            .mask
            .rows()
            .into_iter()
            .map(|row| row.iter().filter(|&&on| on).count())
            .collect();
        assert_eq!(lengths, [5, 6, 2]);
        assert_eq!(encoded.truncated, 1);
        assert_eq!(encoded.batch.token_types.sum(), 0);
        assert_eq!(tokenizer.encode(&[""; 0]).unwrap().truncated, 0);
    }

    #[test]
    fn the_whole_tokenizer_file_agrees_with_its_words() {
        let words = folder(&WORDS);
        let from_words = TextTokenizer::load(words.path(), &config(10), 5).unwrap();
        let whole = tempfile::tempdir().unwrap();
        let file = whole.path().join("tokenizer.json");
        from_words.inner.save(&file, false).unwrap();
        let from_file = TextTokenizer::load(whole.path(), &config(10), 6).unwrap();
        let texts = ["so good", "un good so"];
        let (found, expected) = (from_file.encode(&texts), from_words.encode(&texts));
        assert_eq!(found.unwrap(), expected.unwrap());
        std::fs::write(&file, "{\"version\"").unwrap();
        let error = TextTokenizer::load(whole.path(), &config(10), 6).unwrap_err();
        assert!(matches!(error, EncoderError::Format { path, .. } if path == file));
    }

    #[test]
    fn foreign_tokens_are_cut_to_the_same_limit() {
        let folder = folder(&WORDS);
        let tokenizer = TextTokenizer::load(folder.path(), &config(10), 4).unwrap();
        let batch = TokenBatch {
            ids: array![[2, 5, 6, 5, 6, 3], [2, 5, 6, 3, 0, 0]],
            mask: Array2::from_shape_fn((2, 6), |(row, column)| row == 0 || column < 4),
            token_types: Array2::zeros((2, 6)),
        };
        let EncodedTexts { batch, truncated } = tokenizer.truncate(batch).unwrap();
        assert_eq!(truncated, 1);
        assert_eq!(batch.ids.slice(ndarray::s![0, ..4]), array![2, 5, 6, 3]);
        let kept = Array2::from_shape_fn((2, 6), |(_, column)| column < 4);
        assert_eq!(batch.mask, kept);
    }

    #[test]
    fn a_saved_tokenizer_is_the_same() {
        let words = folder(&WORDS);
        let tokenizer = TextTokenizer::load(words.path(), &config(10), 5).unwrap();
        let saved = tempfile::tempdir().unwrap();
        tokenizer.save(saved.path()).unwrap();
        let again = TextTokenizer::load(saved.path(), &config(10), 5).unwrap();
        let texts = ["so good!", "unso strange so so so"];
        assert_eq!(
            again.encode(&texts).unwrap(),
            tokenizer.encode(&texts).unwrap()
        );
    }

    #[test]
    fn letters_keep_their_case_if_the_folder_says_so() {
        let folder = folder(&WORDS);
        let file = folder.path().join("tokenizer_config.json");
        std::fs::write(file, r#"{"do_lower_case": false}"#).unwrap();
        let tokenizer = TextTokenizer::load(folder.path(), &config(10), 6).unwrap();
        let ids = tokenizer.encode(&["So so"]).unwrap().batch.ids;
        assert_eq!(ids, array![[2, 1, 5, 3]]);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let complete = folder(&WORDS);
        let load = |folder: &tempfile::TempDir, size, max_tokens| {
            TextTokenizer::load(folder.path(), &config(size), max_tokens).unwrap_err()
        };
        assert_eq!(
            load(&complete, 11, 6),
            EncoderError::Vocabulary {
                path: complete.path().join("vocab.txt"),
                expected: 11,
                found: 10
            }
        );
        for max_tokens in [2, 7] {
            let error = load(&complete, 10, max_tokens);
            assert!(matches!(
                error,
                EncoderError::Config {
                    parameter: "max_tokens",
                    ..
                }
            ));
        }
        let unframed = folder(&["[PAD]", "[UNK]", "[CLS]", "so"]);
        let error = load(&unframed, 4, 6);
        assert!(matches!(
            error,
            EncoderError::SpecialToken { token: "[SEP]", .. }
        ));
        let error = TextTokenizer::load(PathBuf::from("/nowhere"), &config(10), 6).unwrap_err();
        assert!(matches!(error, EncoderError::Io { .. }));
    }
}
