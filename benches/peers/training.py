"""Times the LSTM encoder and the training step of this project beside PyTorch, in one session.

    python benches/peers/training.py [--threads N] [--seconds S] [--only WORD]

builds the benchmarks `nn_lstm` and `train_step`, and for each shape runs the benchmark and then the
same work in PyTorch: the same sizes, 32 rows, `f32`, as many threads. `dense` runs an LSTM over the
padding and picks each row's last state, `packed` hands it packed sequences of unequal lengths. The
step is that of Self-MM on text vectors: three encoders, four heads, three covariance losses on
projections, generated labels with class centres over the whole training set, and Adam. Prints medians
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
# Training rows, then steps and features of audio and of vision.
CORPORA = {
    "mosi-aligned": (1284, (50, 5), (50, 20)),
    "mosi-unaligned": (1284, (375, 5), (500, 20)),
    "mosei-aligned": (16326, (50, 74), (50, 35)),
    "mosei-unaligned": (2048, (500, 74), (375, 35)),
}


def build():
    """The executables of the two benchmarks."""
    command = ["cargo", "bench", "-p", "modalign-benches", "--no-run", "--message-format=json",
               "--bench", "nn_lstm", "--bench", "train_step"]
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


def step_call(corpus, packed):
    """A training step on a batch of random rows, in the order of the published code."""
    import torch
    from torch import nn

    torch.manual_seed(1)
    count, audio, vision = CORPORA[corpus]
    texts = torch.randn(count, 768)
    sequences = [torch.randn(count, steps, width) for steps, width in (audio, vision)]
    lengths = [torch.randint((steps + 3) // 4, steps + 1, (count,)) for steps, _ in (audio, vision)]
    labels = torch.empty(count).uniform_(-3, 3)

    def head(inputs, hidden):
        return nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden),
                              nn.Linear(hidden, 1)])

    encoders = nn.ModuleList([
        nn.ModuleList([nn.LSTM(audio[1], 16, batch_first=True), nn.Linear(16, 16)]),
        nn.ModuleList([nn.LSTM(vision[1], 32, batch_first=True), nn.Linear(32, 32)]),
    ])
    heads = nn.ModuleList([head(816, 128), head(768, 32), head(16, 16), head(32, 32)])
    projections = nn.ModuleList([nn.Linear(width, 64) for width in (768, 16, 32)])
    others = [*heads.parameters(), *projections.parameters()]
    adam = torch.optim.Adam([
        {"params": encoders[0].parameters(), "lr": 5e-3, "weight_decay": 1e-3},
        {"params": encoders[1].parameters(), "lr": 5e-3, "weight_decay": 1e-3},
        {"params": others, "lr": 1e-3, "weight_decay": 1e-3},
    ])
    tables = [torch.randn(count, width) for width in (128, 32, 16, 32)]
    generated = [labels.clone() for _ in tables]
    centres = []

    def move_centres():
        centres[:] = [(table[label > 0].mean(0), table[label < 0].mean(0))
                      for table, label in zip(tables, generated)]

    def relative(feature, centre):
        positive, negative = ((feature - one).norm(dim=1) for one in centre)
        return (negative - positive) / (positive + 1e-8)

    def covariance(x):
        x = x - x.mean(0)
        return x.T @ x / (len(x) - 1)

    move_centres()

    def call():
        rows = torch.randperm(count)[:ROWS]
        adam.zero_grad()
        states = [texts[rows]]
        for (lstm, linear), sequence, length in zip(encoders, sequences, lengths):
            states.append(linear(last_state(lstm, sequence[rows], length[rows], packed)))
        features, loss = [], 0.0
        for index, (layers, x) in enumerate(zip(heads, [torch.cat(states, 1), *states])):
            feature = torch.relu(layers[0](x))
            score = layers[2](torch.relu(layers[1](feature)))[:, 0]
            label = generated[index][rows]
            weight = torch.tanh((label - labels[rows]).abs()) if index else 1.0
            loss = loss + (weight * (score - label).abs()).mean()
            features.append(feature.detach())
        shared = [covariance(one(x)) for one, x in zip(projections, states)]
        for left, right in ((0, 1), (0, 2), (1, 2)):
            loss = loss + (shared[left] - shared[right]).square().sum() / (4 * 64 * 64)
        loss.backward()
        fused = relative(features[0], centres[0])
        for index in (1, 2, 3):
            own = relative(features[index], centres[index])
            truth = labels[rows]
            new = 0.5 * own / (fused + 1e-8) * truth + 0.5 * (truth + own - fused)
            generated[index][rows] = generated[index][rows] / 3 + new.clamp(-3, 3) * 2 / 3
        for table, feature in zip(tables, features):
            table[rows] = feature
        move_centres()
        adam.step()

    return call


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
            peer = median(make(form == "packed"), options.seconds)
            cells += [f"{own[name] * 1e3:.3g}", f"{peer * 1e3:.3g}", f"{peer / own[name]:.1f}"]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
