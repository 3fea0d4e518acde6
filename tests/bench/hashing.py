"""Bare argon2id, one thread per core: what logins are compared with.

`python -m tests.bench.hashing SECONDS` prints hashes a second, and microseconds of CPU for each.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher

HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""With the parameters of authsvc's own (OWASP's)."""


def _hashes(until: float) -> int:
    stored, count = HASHER.hash("a password"), 0
    while time.perf_counter() < until:
        HASHER.verify(stored, "a password")
        count += 1
    return count


if __name__ == "__main__":
    seconds, threads = float(sys.argv[1]), len(os.sched_getaffinity(0))
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        hashed = sum(pool.map(_hashes, [end] * threads))
    print(hashed / seconds, time.process_time() / hashed * 1e6)
