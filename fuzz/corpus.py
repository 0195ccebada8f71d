"""Writes the corpus: small inputs of every kind, by the programs that write such files.

    python3 fuzz/corpus.py target/release/modalign

Needs numpy. Inputs that a fuzzer found lie beside them under names that begin with `found`.
"""

import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

CORPUS = Path(__file__).parent / "corpus"
SPLITS = ("train", "valid", "test")


def save(name, content):
    path = CORPUS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def split(name, rows=2):
    random = np.random.default_rng(len(name))
    tokens = np.zeros((rows, 3, 4), np.int64)
    tokens[:, 0, :3] = [101, 7, 102]
    tokens[:, 1, :3] = 1
    audio = random.standard_normal((rows, 3, 3)).round(2)
    audio[0, 2] = 0
    audio[1, 0, 0] = -np.inf
    return {
        "id": np.array([f"{name}$_${row}" for row in range(rows)]),
        "raw_text": np.array(["so good", "naïve 你好"][:rows], dtype=object),
        "text_bert": tokens,
        "text": random.standard_normal((rows, 4, 2)).astype(np.float32).round(2),
        "audio": audio,
        "audio_lengths": np.array([2, 3][:rows]),
        "vision": random.standard_normal((rows, 2)).astype(np.float16),
        "regression_labels": np.linspace(-1, 1, rows),
        "regression_labels_T": np.linspace(0, 1, rows),
        "annotations": ["Neutral"] * rows,
    }


def pickles():
    data = {name: split(name) for name in SPLITS}
    for protocol in range(6):
        save(f"pickle/protocol_{protocol}.pkl", pickle.dumps(data, protocol))
    lists = {
        name: {
            key: value.tolist() if key != "audio" else np.asfortranarray(value)
            for key, value in split(name).items()
            if not isinstance(value, list) and key in ("id", "audio", "regression_labels")
        }
        for name in SPLITS
    }
    save("pickle/lists.pkl", pickle.dumps(lists, 4))
    for name in SPLITS:
        data[name]["when"] = np.array(["2020-01-01"] * 2, dtype="datetime64[D]")
        data[name]["vision"] = data[name]["vision"].astype(">f4").T.copy().T
        data[name]["n"] = np.float64(2.5)
    save("pickle/other_types.pkl", pickle.dumps(data, 4))
    save("pickle/calls.pkl", b"cos\nsystem\n(S'true'\ntR.")

    # Small files that ask for much memory: every reference costs two bytes.
    text = "x" * 2000
    shared = {
        name: {"regression_labels": [0.0] * 50, "raw_text": [text] * 50, "audio": np.ones((50, 2))}
        for name in SPLITS
    }
    save("pickle/shared_text.pkl", pickle.dumps(shared, 4))
    big = np.ones((2, 300))
    shared = {
        name: {"regression_labels": [0.0, 1.0]} | {f"a{i}": big for i in range(60)}
        for name in SPLITS
    }
    save("pickle/shared_arrays.pkl", pickle.dumps(shared, 4))
    save("pickle/values.pkl", b"\x80\x04" + b"N" * 3000 + b".")
    save("pickle/memos.pkl", b"\x80\x04N" + b"\x94" * 3000 + b".")
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02f8K\0K\x01\x87R"
    axes = b"(" + b"K\x01" * 500 + b"t"
    state = b"(K\x01" + axes + dtype + b"\x89U\x08" + bytes(8) + b"t"
    save("pickle/axes.pkl", b"\x80\x02" + array + state + b"b.")


def npy(array, **keywords):
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asarray(array), **keywords)
    return content.getvalue()


def archives():
    arrays = {
        f"{name}/{key}": np.array(value, dtype="U") if key in ("raw_text", "annotations") else value
        for name in SPLITS
        for key, value in split(name).items()
    }
    stored, compressed = io.BytesIO(), io.BytesIO()
    np.savez(stored, **arrays)
    np.savez_compressed(compressed, **arrays)
    save("npz/stored.npz", stored.getvalue())
    save("npz/compressed.npz", compressed.getvalue())

    def archive(members, compression=zipfile.ZIP_DEFLATED):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", compression) as file:
            for name, data in members.items():
                file.writestr(name, data)
        return content.getvalue()

    labels = npy(np.array([0.0, 1.0]))
    plain = {f"{name}/regression_labels.npy": labels for name in SPLITS}
    # Zeros of 24 MB in 24 kB.
    zeros = npy(np.zeros((2, 1000, 1000), np.float32))
    save("npz/bomb.npz", archive(plain | {f"{name}/audio.npy": zeros for name in SPLITS}))
    # A header that promises more than there is.
    promise = npy(np.zeros((2, 1))).replace(b"(2, 1), }      ", b"(2, 99999999), }")
    save("npz/promise.npz", archive(plain | {f"{name}/audio.npy": promise for name in SPLITS}))
    paths = ["../outside.npy", "/absolute.npy", "train/../../x.npy", "train/a/b.npy", "train//.npy"]
    save("npz/paths.npz", archive(plain | {path: labels for path in paths}))
    # Three members whose data are the same bytes of the file.
    whole = bytearray(archive({f"{name}/regression_labels.npy": labels for name in SPLITS}, 0))
    directory = whole.index(b"PK\x01\x02")
    first = bytes(whole[:directory])
    entries, at = b"", directory
    for _ in SPLITS:
        length = 46 + sum(struct.unpack_from("<HHH", whole, at + 28))
        entry = bytearray(whole[at : at + length])
        struct.pack_into("<I", entry, 42, 0)
        entries += entry
        at += length
    save("npz/overlapping.npz", first + entries + bytes(whole[at:]))


def npys():
    data = split("train")
    save("npy/labels.npy", npy(data["regression_labels"]))
    save("npy/ids.npy", npy(np.array(["a", "b"])))
    save("npy/text.npy", npy(data["text"]))
    save("npy/audio.npy", npy(data["audio"]))
    save("npy/text_bert.npy", npy(data["text_bert"]))
    save("npy/lengths.npy", npy(np.array([1, 2])))
    save("npy/half_fortran.npy", npy(np.asfortranarray(data["audio"].astype(np.float16))))
    save("npy/big_endian.npy", npy(data["text"].astype(">f8"), version=(2, 0)))
    save("npy/bytes.npy", npy(np.array([b"one", b"two"]), version=(3, 0)))
    save("npy/record.npy", npy(np.zeros(2, dtype=[("a", "<f4"), ("b", "<i2")])))
    save("npy/matrix.npy", npy(np.arange(6, dtype=np.float32).reshape(3, 2)))
    for name, shape in {
        "too_large": "(2, 4611686018427387904, 4611686018427387904)",
        "empty_axis": "(2, 0, 9999999999999999)",
        "negative": "(-1, 3)",
        "huge": "(2, 9999999999)",
    }.items():
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        save(f"npy/{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def train(program, folder, name, *arguments):
    command = [program, "train", "--data", "data.npz", "--output", name, "--quiet", "--seeds", "1"]
    sizes = ["fusion.hidden_size=2", "objective.shared_width=2", "training.batch_size=4"]
    for modality in ("text", "audio", "vision"):
        part = f"modalities.{modality}"
        sizes += [f"{part}.head.hidden_size=2", f"{part}.encoder.output_size=2"]
    for size in sizes:
        command += ["--set", size]
    subprocess.run(command + list(arguments), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return (folder / name / "best.safetensors").read_bytes()


def resized(checkpoint, old, new):
    """The checkpoint with another configuration and a checksum that fits, as `Store` has it."""
    length = struct.unpack("<Q", checkpoint[:8])[0]
    header, body = json.loads(checkpoint[8 : 8 + length]), checkpoint[8 + length :]
    metadata = json.loads(header.pop("__metadata__")["modalign"])
    del metadata["sha256"]
    metadata["config"] = metadata["config"].replace(old, new)
    hash = hashlib.sha256()

    def add(part):
        hash.update(struct.pack("<Q", len(part)) + part)

    add(struct.pack("<Q", len(metadata)))
    for key in sorted(metadata):
        add(key.encode())
        add(metadata[key].encode())
    for name in sorted(header):
        start, end = header[name]["data_offsets"]
        add(name.encode())
        add(f"{header[name]['dtype']} {header[name]['shape']}".encode())
        add(body[start:end])
    metadata["sha256"] = hash.hexdigest()
    text = json.dumps({"__metadata__": {"modalign": json.dumps(metadata, separators=(",", ":"))}} | header)
    text += " " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text.encode() + body


def checkpoints(program):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        random = np.random.default_rng(1)
        arrays = {}
        for name in SPLITS:
            rows = 8
            arrays |= {
                f"{name}/regression_labels": np.linspace(-2, 2, rows),
                f"{name}/text": random.standard_normal((rows, 2, 2)).astype(np.float32),
                f"{name}/audio": random.standard_normal((rows, 2, 3)).astype(np.float32),
                f"{name}/vision": random.standard_normal((rows, 2)).astype(np.float32),
            }
        np.savez(folder / "data.npz", **arrays)
        lstm = ["--set", 'modalities.audio.encoder={kind="lstm",hidden_size=2,dropout=0.0,output_size=2}']
        best = train(program, folder, "three", "--epochs", "1", *lstm)
        save("checkpoint/three_modalities.safetensors", best)
        best = train(program, folder, "one", "--epochs", "1", "--modalities", "vision",
                     "--set", 'modalities.vision.encoder={kind="identity"}',
                     "--set", "data.standardize=false")
        save("checkpoint/vision.safetensors", best)

        # The same configuration with sizes that no file of this length holds.
        for name, size in [("hidden", 2 * 10**12), ("head", 2**63 - 1)]:
            wrong = resized(best, '"hidden_size":2', f'"hidden_size":{size}')
            save(f"checkpoint/large_{name}.safetensors", wrong)
        save("checkpoint/header_beyond_end.safetensors", struct.pack("<Q", 1 << 40) + b"{}")

        config = subprocess.run([program, "config"], check=True, capture_output=True).stdout
        save("config/whole.toml", config)


def configs():
    save("config/few.toml", '[data]\nconvention = "sims"\nmodalities = ["text"]\n'
         '[training]\nbatch_size = 8\nwarm_up = 0.1\n')
    save("config/distance.toml", "[objective.shared_information]\nddof = 0\nshrinkage = { fixed = 0.5 }\n"
         'distance = { kind = "log_euclidean" }\n[modalities.audio.encoder]\nkind = "identity"\n')
    save("config/text_model.toml", '[text_model]\nfolder = "bert"\ntuning = { last = 2 }\npooling = "cls"\n')
    save("config/deep.toml", "a" + ".a" * 3000 + " = 1\n")
    save("config/nested.toml", "seeds = " + "[" * 3000 + "]" * 3000 + "\n")
    save("config/numbers.toml", "seeds = [0xffffffffffffffff]\n[data]\nclip = nan\nneutral_label = 1e400\n")


def text_models():
    config = {
        "model_type": "bert", "vocab_size": 6, "hidden_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 4, "max_position_embeddings": 5,
        "type_vocab_size": 2,
    }
    shapes = {f"embeddings.{name}_embeddings.weight": (rows, 4)
              for name, rows in [("word", 6), ("position", 5), ("token_type", 2)]}
    norms = ["embeddings.LayerNorm"]
    layer = "encoder.layer.0"
    for name, out, into in [("attention.self.query", 4, 4), ("attention.self.key", 4, 4),
                            ("attention.self.value", 4, 4), ("attention.output.dense", 4, 4),
                            ("intermediate.dense", 4, 4), ("output.dense", 4, 4)]:
        shapes |= {f"{layer}.{name}.weight": (out, into), f"{layer}.{name}.bias": (out,)}
    norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for norm in norms:
        shapes |= {f"{norm}.weight": (4,), f"{norm}.bias": (4,)}

    def safetensors(dtype, size, fill):
        header, body = {}, b""
        for name, shape in shapes.items():
            content = fill * int(np.prod(shape))
            header[name] = {"dtype": dtype, "shape": shape,
                            "data_offsets": [len(body), len(body) + len(content)]}
            body += content
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + body

    def folder(config, weights):
        return json.dumps(config).encode() + b"\n---\n" + weights

    save("text_model/f32", folder(config, safetensors("F32", 4, struct.pack("<f", 0.25))))
    save("text_model/bf16", folder(config, safetensors("BF16", 2, b"\x80\x3e")))
    for key, value in [("vocab_size", 10**13), ("hidden_size", 2**40), ("num_hidden_layers", 10**10),
                       ("intermediate_size", 2**63 - 1), ("max_position_embeddings", 10**15)]:
        wrong = config | {key: value}
        save(f"text_model/large_{key}", folder(wrong, safetensors("F32", 4, struct.pack("<f", 0.25))))


def word_pieces():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "so", "good", "un", "##so", "!", "你",
             "hello", ",", "w", "##ö", "##rld", "##o", "a", "b", "##a", "##b", "e", "##e"]
    save("word_piece/vocabulary.txt", "\n".join(words) + "\n")
    save("word_piece/empty", "")
    save("word_piece/plain", "So GOOD, unso! 你好 hello wörld")
    save("word_piece/marks", "a\u0301\u0300\u200d\ufeff\x00\x01 [SEP] [MASK]\t\r\n##a \u2028")
    save("word_piece/long", "a" * 500 + " b" * 500)
    save("word_piece/not_utf8", b"a\xff\xfe b\xc3\x28")
    vocabulary = {word: index for index, word in enumerate(words)}
    special = [{"id": vocabulary[word], "content": word, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True}
               for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    }
    save("word_piece/tokenizer.json", json.dumps(tokenizer))


def json_lines():
    line = {"id": "a", "text": [[1, 2], [3, 4]], "audio": [[0.5, 1, -1]], "vision": [1, 2]}
    save("json_lines/two.jsonl", json.dumps(line) + "\n\n" + json.dumps(line | {"id": 7}) + "\n")
    save("json_lines/deep.jsonl", '{"text": ' + "[" * 5000)
    save("json_lines/numbers.jsonl", '{"text": [1e999, -0, 1e-400], "audio": [[], []], "vision": 1}\n')
    save("json_lines/not_finite.jsonl", json.dumps(line | {"text": [[3.5e38, 2]]}) + "\n")
    save("json_lines/empty_steps.jsonl", json.dumps(line | {"text": []}) + "\n")
    save("json_lines/many.jsonl", '{"text": [' + "[]," * 2000 + "[]]}\n")
    save("json_lines/not_utf8.jsonl", b'{"text": "\xff"}\n')


pickles()
archives()
npys()
configs()
text_models()
word_pieces()
json_lines()
checkpoints(str(Path(sys.argv[1]).resolve()))
