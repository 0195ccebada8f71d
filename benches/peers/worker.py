"""Times what PyTorch and NumPy do, as compare.py asks on standard input.

A request is `operation formulation type seconds extent...`, the answer a line with the seconds a call
of every sample, or `-` for a formulation that there is not for these extents.
"""

import sys

import covariance
import sampling
import text_encoder

OPERATIONS = covariance.OPERATIONS | text_encoder.OPERATIONS


def main():
    case, prepared = None, {}
    for line in sys.stdin:
        operation, formulation, kind, seconds, *extents = line.split()
        extents = tuple(map(int, extents))
        if case != (operation, kind, extents):
            case, prepared = (operation, kind, extents), {}
        if formulation not in prepared:
            call = OPERATIONS[operation](formulation, kind, *extents)
            prepared[formulation] = call and (call, sampling.warm(call))
        if prepared[formulation] is None:
            print("-", flush=True)
        else:
            print(*sampling.samples(*prepared[formulation], float(seconds)), flush=True)


if __name__ == "__main__":
    main()
