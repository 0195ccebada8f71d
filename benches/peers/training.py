"""Times training with this project beside PyTorch, in one session: LSTM encoder, step, whole run.

    python benches/peers/training.py [--threads N] [--seconds S] [--only WORD]

builds the benchmarks `nn_lstm`, `train_step` and `labels_update`, and for each case runs the benchmark
and then the same work in PyTorch: the same sizes, 32 rows, `f32`, as many threads. `dense` runs an LSTM over the
padding and picks each row's last state, `packed` hands it packed sequences of unequal lengths. The
step is that of Self-MM on text vectors: three encoders, four heads, three covariance losses on
projections, generated labels with class centres over the whole training set, and Adam. A run is five
seeds of as many epochs on both sides, each epoch with its validation, and a test at the end; it is timed
once. `label update` is what a step does for its labels, and stands in the column `dense`. Prints medians
and how many times faster this project is. The machine must have nothing else to do.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROWS = 32
LSTMS = [(50, 5, 16), (50, 20, 32), (375, 5, 16), (500, 20, 32), (500, 74, 16), (375, 35, 32),
         (500, 35, 32), (500, 74, 128)]
# Features of the fused head and of each modality's.
WIDTHS = (128, 32, 16, 32)
# As in the benchmark `train_step`.
RUN_EPOCHS = 5
# Training rows, then steps and features of audio and of vision.
CORPORA = {
    "mosi-aligned": (1284, (50, 5), (50, 20)),
    "mosi-unaligned": (1284, (375, 5), (500, 20)),
    "mosei-aligned": (16326, (50, 74), (50, 35)),
    "mosei-unaligned": (2048, (500, 74), (375, 35)),
}


def build():
    """The executables of the benchmarks."""
    command = ["cargo", "bench", "-p", "modalign-benches", "--no-run", "--message-format=json",
               "--bench", "nn_lstm", "--bench", "train_step", "--bench", "labels_update"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    targets = [json.loads(line) for line in lines if line.startswith("{")]
    return {one["target"]["name"]: one["executable"] for one in targets if one.get("executable")}


def measured(executable, name):
    """The median of one benchmark in seconds."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"CRITERION_HOME": home}
        subprocess.run([executable, "--bench", "--noplot", "--exact", name], check=True,
                       env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (found,) = pathlib.Path(home).glob("**/new/estimates.json")
        return json.loads(found.read_text())["median"]["point_estimate"] * 1e-9


def median(call, seconds):
    """The median time of a call, of at least three and of as many as fit."""
    call()
    call()
    taken, end = [], time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def once(call):
    """The time of a call that is long enough to be called once."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def last_state(lstm, x, lengths, packed):
    import torch

    if packed:
        sequence = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False)
        return lstm(sequence)[1][0][0]
    return lstm(x)[0][torch.arange(len(x)), lengths - 1]


def lstm_call(steps, width, hidden, packed):
    import torch

    torch.manual_seed(1)
    lstm = torch.nn.LSTM(width, hidden, batch_first=True)
    x = torch.randn(ROWS, steps, width)
    lengths = torch.randint((steps + 3) // 4, steps + 1, (ROWS,))

    def call():
        lstm.zero_grad()
        last_state(lstm, x, lengths, packed).sum().backward()

    return call


class Labels:
    """Generated labels with class centres that are recomputed over all rows, as the published code does."""

    def __init__(self, labels):
        import torch

        self.truth = labels
        self.tables = [torch.randn(len(labels), width) for width in WIDTHS]
        self.generated = [labels.clone() for _ in WIDTHS]
        self.move_centres()

    def move_centres(self):
        self.centres = [(table[label > 0].mean(0), table[label < 0].mean(0))
                        for table, label in zip(self.tables, self.generated)]

    def update(self, rows, features):
        def relative(feature, centre):
            positive, negative = ((feature - one).norm(dim=1) for one in centre)
            return (negative - positive) / (positive + 1e-8)

        truth = self.truth[rows]
        fused, *alone = map(relative, features, self.centres)
        for label, own in zip(self.generated[1:], alone):
            new = 0.5 * own / (fused + 1e-8) * truth + 0.5 * (truth + own - fused)
            label[rows] = label[rows] / 3 + new.clamp(-3, 3) * 2 / 3
        for table, feature in zip(self.tables, features):
            table[rows] = feature
        self.move_centres()


class Data:
    """Random text vectors, sequences and labels."""

    def __init__(self, corpus, rows):
        import torch

        _, *shapes = CORPORA[corpus]
        self.count = rows
        self.texts = torch.randn(rows, 768)
        self.sequences = [torch.randn(rows, steps, width) for steps, width in shapes]
        self.lengths = [torch.randint((steps + 3) // 4, steps + 1, (rows,)) for steps, _ in shapes]
        self.labels = torch.empty(rows).uniform_(-3, 3)


class Learner:
    """Model and training step of the published code on text vectors."""

    def __init__(self, corpus, data, packed):
        import torch
        from torch import nn

        _, audio, vision = CORPORA[corpus]
        self.data, self.packed = data, packed

        def head(inputs, hidden):
            return nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden),
                                  nn.Linear(hidden, 1)])

        self.encoders = nn.ModuleList([
            nn.ModuleList([nn.LSTM(audio[1], 16, batch_first=True), nn.Linear(16, 16)]),
            nn.ModuleList([nn.LSTM(vision[1], 32, batch_first=True), nn.Linear(32, 32)]),
        ])
        self.heads = nn.ModuleList([head(816, 128), head(768, 32), head(16, 16), head(32, 32)])
        self.projections = nn.ModuleList([nn.Linear(width, 64) for width in (768, 16, 32)])
        others = [*self.heads.parameters(), *self.projections.parameters()]
        self.adam = torch.optim.Adam([
            {"params": self.encoders[0].parameters(), "lr": 5e-3, "weight_decay": 1e-3},
            {"params": self.encoders[1].parameters(), "lr": 5e-3, "weight_decay": 1e-3},
            {"params": others, "lr": 1e-3, "weight_decay": 1e-3},
        ])
        self.labels = Labels(data.labels)

    def states(self, data, rows):
        states = [data.texts[rows]]
        for (lstm, linear), sequence, length in zip(self.encoders, data.sequences, data.lengths):
            states.append(linear(last_state(lstm, sequence[rows], length[rows], self.packed)))
        return states

    def step(self, rows):
        import torch

        def covariance(x):
            x = x - x.mean(0)
            return x.T @ x / (len(x) - 1)

        self.adam.zero_grad()
        states = self.states(self.data, rows)
        features, loss, truth = [], 0.0, self.data.labels[rows]
        for index, (layers, x) in enumerate(zip(self.heads, [torch.cat(states, 1), *states])):
            feature = torch.relu(layers[0](x))
            score = layers[2](torch.relu(layers[1](feature)))[:, 0]
            label = self.labels.generated[index][rows]
            weight = torch.tanh((label - truth).abs()) if index else 1.0
            loss = loss + (weight * (score - label).abs()).mean()
            features.append(feature.detach())
        shared = [covariance(one(x)) for one, x in zip(self.projections, states)]
        for left, right in ((0, 1), (0, 2), (1, 2)):
            loss = loss + (shared[left] - shared[right]).square().sum() / (4 * 64 * 64)
        loss.backward()
        self.labels.update(rows, features)
        self.adam.step()

    def validate(self, data):
        import torch

        with torch.no_grad():
            scores = []
            for rows in torch.arange(data.count).split(256):
                x = torch.cat(self.states(data, rows), 1)
                for layer in self.heads[0][:2]:
                    x = torch.relu(layer(x))
                scores.append(self.heads[0][2](x)[:, 0])
            return (torch.cat(scores) - data.labels).abs().mean().item()


def step_call(corpus, packed):
    """A training step on a batch of random rows, in the order of the published code."""
    import torch

    torch.manual_seed(1)
    data = Data(corpus, CORPORA[corpus][0])
    learner = Learner(corpus, data, packed)
    return lambda: learner.step(torch.randperm(data.count)[:ROWS])


def run_call(corpus, packed):
    """Five seeds: epochs with their validation, then the test."""
    import torch

    count = CORPORA[corpus][0]
    train, valid, test = (Data(corpus, rows) for rows in (count, count // 7, count // 2))

    def call():
        for seed in range(1111, 1116):
            torch.manual_seed(seed)
            learner = Learner(corpus, train, packed)
            for _ in range(RUN_EPOCHS):
                for rows in torch.randperm(count).split(ROWS):
                    learner.step(rows)
                learner.validate(valid)
            learner.validate(test)

    return call


def label_call(count):
    import torch

    torch.manual_seed(1)
    labels = Labels(torch.empty(count).uniform_(-3, 3))
    features = [torch.randn(ROWS, width) for width in WIDTHS]
    return lambda: labels.update(torch.randperm(count)[:ROWS], features)


def cases():
    for steps, width, hidden in LSTMS:
        name = f"lstm/t={steps},d={width},h={hidden}/f32"
        yield (f"LSTM T {steps}, D {width}, H {hidden}", "nn_lstm",
               {"dense": f"{name}/full/forward+backward/threads={{threads}}",
                "packed": f"{name}/varied/forward+backward/threads={{threads}}"},
               lambda packed, shape=(steps, width, hidden): lstm_call(*shape, packed))
    for corpus in CORPORA:
        name = f"step/{corpus}/everything/threads={{threads}}"
        yield (f"step, {corpus}", "train_step", {"dense": name, "packed": name},
               lambda packed, corpus=corpus: step_call(corpus, packed))
    for corpus in ("mosi-aligned", "mosi-unaligned"):
        yield (f"5 seeds x {RUN_EPOCHS} epochs, {corpus}", "train_step",
               {"dense": f"run/{corpus}/threads={{threads}}"},
               lambda packed, corpus=corpus: run_call(corpus, packed))
    for count in (1284, 16326):
        yield (f"label update, N {count}", "labels_update",
               {"dense": f"label_update/n={count},b=32/f32"},
               lambda packed, count=count: label_call(count))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each PyTorch figure")
    parser.add_argument("--only", default="", help="cases whose name has this word")
    options = parser.parse_args()
    # Before the import of torch, which reads it.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    executables = build()
    import torch

    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
          f"{options.threads} thread(s), medians in ms")
    print("| case | modalign | dense | ratio | modalign, unequal lengths | packed | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for title, bench, names, make in cases():
        if options.only not in title:
            continue
        own, cells = {}, []
        for form, name in names.items():
            name = name.format(threads=options.threads)
            if name not in own:
                own[name] = measured(executables[bench], name)
            call = make(form == "packed")
            peer = once(call) if title.startswith("5 seeds") else median(call, options.seconds)
            cells += [f"{own[name] * 1e3:.3g}", f"{peer * 1e3:.3g}", f"{peer / own[name]:.1f}"]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
