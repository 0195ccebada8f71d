"""How every program here times a call, and what it answers.

A sample is the mean of as many calls as take SAMPLE seconds. Samples are taken until the time asked
for is over, one at least.
"""

import time

SAMPLE = 1e-3
WARM = 0.2


def warm(call):
    """Runs a call until it has its caches, and returns how many make a sample."""
    end = time.perf_counter() + WARM
    for _ in range(3):
        call()
        if time.perf_counter() > end:
            return 1
    calls = 1
    while True:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        taken = time.perf_counter() - begin
        if taken >= SAMPLE:
            return calls
        calls = max(calls + 1, int(calls * min(10.0, 1.2 * SAMPLE / max(taken, 1e-9))))


def samples(call, calls, seconds):
    """Seconds a call, one number a sample."""
    taken = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        taken.append((time.perf_counter() - begin) / calls)
    return taken
