"""`python -m tests.bench`: starts everything, measures, prints. The method is told in `tests/bench/__init__.py`."""

import argparse
import os
import platform
import re
import sqlite3
import subprocess
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import tests.bench
from tests.bench.house import House
from tests.bench.load import CONNECTIONS, WRK
from tests.bench.parts import PARTS, Plan
from tests.bench.processes import Neighbours
from tests.bench.report import Goal, goals_table

_CORES = 2
_PACKAGES = ("Flask", "Werkzeug", "SQLAlchemy", "psycopg", "itsdangerous", "argon2-cffi", "granian", "gunicorn")


def main() -> None:
    """Run the parts asked for and print what they report as they end."""
    arguments = _arguments()
    plan = Plan()
    if arguments.quick:
        plan = replace(plan, rounds=2, seconds=1, connections=(CONNECTIONS,), sizes=(1_000, 10_000), soak=20_000)
    if arguments.full:
        plan = replace(plan, sizes=(1_000, 10_000, 100_000, 1_000_000), soak=1_000_000)
    if arguments.soak:
        plan = replace(plan, soak_minutes=arguments.soak)
    # Inherited by everything that is started.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    started, neighbours, goals = time.monotonic(), Neighbours(), list[Goal]()
    with House() as house:
        print(_machine(house))
    for name in [arguments.only] if arguments.only else PARTS:
        with House() as house:
            report = PARTS[name](house, plan)
        print(report, flush=True)
        goals += report.goals
    if goals:
        print(goals_table(goals))
    print(
        f"\n{plan.rounds} rounds of {plan.seconds:g} s; median (lowest-highest). "
        f"{time.monotonic() - started:.0f} s in all; others took {neighbours.share():.0%} of the cores meanwhile."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.bench", description=tests.bench.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds: to develop with, not to quote")
    parser.add_argument("--full", action="store_true", help="let accounts, sessions and requests grow to 1,000,000")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="let the part `soak` take so long, at the least")
    parser.add_argument("--only", choices=PARTS, metavar="NAME", help=f"one part: {', '.join(PARTS)}")
    return parser.parse_args()


def _machine(house: House) -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    ((postgresql,),) = house.postgres.execute("SHOW server_version")
    wrk = WRK and subprocess.run([WRK, "-v"], capture_output=True, text=True, check=False).stdout.split(" [")[0]
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    model = found[1] if found else platform.machine()
    databases = f"SQLite {sqlite3.sqlite_version}, PostgreSQL {postgresql}"
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    autogroup = Path("/proc/sys/kernel/sched_autogroup_enabled")
    sharing = "on" if autogroup.exists() and int(autogroup.read_text()) else "off"
    return "\n".join(
        [
            f"{cores}, {model}, {platform.system()} {platform.release()}, autogroup {sharing}",
            f"Python {platform.python_version()}, {databases}, {packages}",
            f"load: {wrk or 'tests/bench/load.py'}, {CONNECTIONS} connections unless told otherwise",
        ]
    )


if __name__ == "__main__":
    main()
