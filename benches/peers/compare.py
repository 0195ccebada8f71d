"""Times modalign beside what users of NumPy and PyTorch have, in one session, and prints the ratios.

    python benches/peers/compare.py

builds the program `peers` of the benchmarks in Rust alone and, with `--openblas`, on the OpenBLAS of
the system too, starts it and the Python worker once for each number of threads, and lets them time
every case in turns. The machine must have nothing else to do. Ratios are medians over the samples of
all turns, peer by modalign in Rust alone: above 1, modalign is faster.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# Layers, width, heads and inner width of two encoders, with texts of 50 tokens, and of 10 to 50.
TEXT_ENCODERS = [
    (*size, shortest) for size in [(6, 384, 12, 1536), (12, 768, 12, 3072)] for shortest in (50, 10)
]
SHAPES = [(32, 32), (32, 128), (32, 768), (128, 128), (512, 256), (2048, 768), (8192, 1024)]

# What is timed: operation, type, extents. The first competitor is the one the others are divided by.
CASES = [
    (operation, kind, shape)
    for operation, kind in [
        ("covariance", "f32"),
        ("covariance", "f64"),
        ("loss", "f32"),
        ("loss_gradient", "f32"),
    ]
    for shape in SHAPES
] + [
    (operation, "f32", shape)
    for operation in ["text_encoder", "text_gradient", "text_gradient_dropout", "text_step"]
    for shape in TEXT_ENCODERS
]
LOSS = [
    ("modalign", "modalign"),
    ("openblas", "modalign"),
    ("modalign", "ndarray"),
    ("python", "eager"),
    ("python", "analytic"),
    ("python", "gram"),
    ("python", "compile"),
]
TEXT = [("modalign", "modalign"), ("python", "transformers")]
COMPETITORS = {
    "covariance": [
        ("modalign", "modalign"),
        ("modalign", "kernels"),
        ("openblas", "modalign"),
        ("openblas", "syrk"),
        ("modalign", "ndarray"),
        ("python", "np.cov"),
        ("python", "numpy_syrk"),
        ("python", "torch.cov"),
        ("python", "torch_mm"),
    ],
    "loss": LOSS,
    "loss_gradient": LOSS,
    "text_encoder": TEXT,
    "text_gradient": TEXT,
    "text_gradient_dropout": TEXT,
    "text_step": TEXT,
}


def build(folder, features):
    """Builds the program in Rust and returns the path of a copy, which the next build leaves alone."""
    command = ["cargo", "build", "--release", "-p", "modalign-benches", "--bin", "peers"]
    subprocess.run([*command, *(["--features", features] if features else [])], cwd=HERE, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
    copy = folder / f"peers-{features or 'default'}"
    shutil.copy2(target / "release" / "peers", copy)
    return copy


class Worker:
    """A program that times what it is asked to."""

    def __init__(self, command, threads):
        names = ["OMP", "MKL", "OPENBLAS", "RAYON"]
        environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in names}
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def samples(self, operation, formulation, kind, shape, seconds):
        print(operation, formulation, kind, seconds, *shape, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"no answer to {operation} {formulation}")
        # Threads that spin a while after their work must not disturb the next one.
        time.sleep(0.01)
        return [] if answer.strip() == "-" else [float(number) for number in answer.split()]


def in_words(seconds):
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="turns of every competitor (default 5)")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a turn (default 0.05)")
    parser.add_argument("--only", nargs="+", help="operations, of: " + ", ".join(COMPETITORS))
    parser.add_argument("--openblas", action="store_true", help="with the backend openblas-system too")
    parser.add_argument("--no-build", action="store_true", help="with the programs of the last run")
    parser.add_argument("--build-only", action="store_true")
    arguments = parser.parse_args()

    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")) / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    variants = {"modalign": "", "openblas": "openblas-backend"} if arguments.openblas else {"modalign": ""}
    programs = {
        name: folder / f"peers-{features or 'default'}" if arguments.no_build else build(folder, features)
        for name, features in variants.items()
    }
    if arguments.build_only:
        return
    commands = {name: [program] for name, program in programs.items()}
    commands["python"] = [sys.executable, HERE / "worker.py"]

    for operation in COMPETITORS:
        if arguments.only and operation not in arguments.only:
            continue
        competitors = [pair for pair in COMPETITORS[operation] if pair[0] in commands]
        names = [formulation if worker != "openblas" else f"openblas {formulation}" for worker, formulation in competitors]
        print(f"\n| {operation} | threads | " + " | ".join(names) + " |")
        print("| --- " * (len(names) + 2) + "|")
        for threads in arguments.threads:
            workers = {name: Worker(command, threads) for name, command in commands.items()}
            # A worker that is still starting would disturb the others.
            for worker, formulation in competitors:
                _, kind, shape = next(case for case in CASES if case[0] == operation)
                workers[worker].samples(operation, formulation, kind, shape, 0)
            for case in CASES:
                if case[0] != operation:
                    continue
                _, kind, shape = case
                taken = {competitor: [] for competitor in competitors}
                for _ in range(arguments.rounds):
                    for worker, formulation in competitors:
                        taken[worker, formulation] += workers[worker].samples(
                            operation, formulation, kind, shape, arguments.seconds
                        )
                medians = [statistics.median(taken[pair]) if taken[pair] else None for pair in competitors]
                cells = [in_words(medians[0])]
                cells += ["" if peer is None else f"{peer / medians[0]:.2f}" for peer in medians[1:]]
                label = f"{'x'.join(map(str, shape))} {kind}"
                print(f"| {label} | {threads} | " + " | ".join(cells) + " |", flush=True)
            for worker in workers.values():
                worker.process.stdin.close()
                worker.process.wait()


if __name__ == "__main__":
    main()
