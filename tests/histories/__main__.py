"""`python -m tests.histories`: runs as long as it is told, and says what was done and what came of it."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import tests.histories
from tests.histories.faults import HOUSES
from tests.histories.rounds import run


def main() -> int:
    """Run on the databases asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m tests.histories",
        description=tests.histories.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each database")
    parser.add_argument("--seed", type=int, default=1, help="what is done, and what happens, begins with it")
    parser.add_argument("--longest", type=float, default=4, help="seconds that a fault lasts at the most")
    parser.add_argument("--database", choices=HOUSES, help="one of them; without it, both")
    arguments = parser.parse_args()
    # However it ends, what it has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    bad = False
    for name in [arguments.database] if arguments.database else HOUSES:
        with tempfile.TemporaryDirectory() as folder, HOUSES[name](Path(folder)) as house:
            report = run(house, arguments.seed, seconds=arguments.seconds, longest=arguments.longest)
        print(f"{name}, seed {arguments.seed}\n{report}", flush=True)
        bad |= bool(report.violations or report.undecided)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
