"""The most memory that a step of fine-tuning takes, beside PyTorch: both passes with dropout and Adam, 32
texts of 50 tokens, each in a process of its own that does nothing else.

    python benches/peers/memory.py [--threads N] [--steps N]

needs the program that `compare.py` builds (`--build-only`). Prints the largest resident size of each
process as the system counts it, the interpreter and its libraries included, and the time of a step.
"""

import argparse
import os
import pathlib
import statistics
import sys

import compare

WORK = [
    ("modalign", "modalign"),
    ("modalign", "recompute"),
    ("modalign", "last_2"),
    ("python", "transformers"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", compare.HERE.parent.parent / "target"))
    commands = {
        "modalign": [folder / "peers" / "peers-default"],
        "python": [sys.executable, compare.HERE / "worker.py"],
    }
    print("| encoder | formulation | MiB | seconds a step |")
    print("| --- | --- | --- | --- |")
    for shape in compare.TEXT_ENCODERS:
        if shape[-1] != 50:
            continue
        for program, formulation in WORK:
            worker = compare.Worker(commands[program], arguments.threads)
            taken = [
                second
                for _ in range(arguments.steps)
                for second in worker.samples("text_step", formulation, "f32", shape, 0)
            ]
            worker.process.stdin.close()
            _, _, usage = os.wait4(worker.process.pid, 0)
            seconds = statistics.median(taken)
            label = "x".join(map(str, shape[:4]))
            print(f"| {label} | {formulation} | {usage.ru_maxrss / 1024:.0f} | {seconds:.3g} |", flush=True)


if __name__ == "__main__":
    main()
