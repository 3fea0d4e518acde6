"""What is measured, part by part: each starts what it needs, lets its contestants take turns, and reports."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import psycopg
from flask import Flask
from sqlalchemy import event

from authsvc import create_app, logs
from authsvc.config import load
from authsvc.store import db
from tests.bench.house import DATABASES, Contestant, House, Sample
from tests.bench.load import CONNECTIONS, request
from tests.bench.load import flood as load_in_background
from tests.bench.load import load as send
from tests.bench.population import Population, account_name
from tests.bench.processes import cpu_seconds, held, peak_memory
from tests.bench.report import Report, Spread, at_least, at_most
from tests.databases import PASSWORD, SECRET_KEY, close
from tests.dialects import Auth, Console, in_process
from tests.servers import ROOT, Server, wait_for

VERIFY, INFO, LOGIN = "/api/auth/verify", "/AccAdmin/getLoginInfo", "/api/auth/login"
_COLUMNS = ("", "a second", "p50 ms", "p99 ms", "CPU us", "database CPU us")
_FEW, _MANY = 1000, 20_000
_FLOODERS = 64
_STEPS = 10


@dataclass(frozen=True)
class Plan:
    """How thorough to be."""

    rounds: int = 5
    seconds: float = 2
    connections: tuple[int, ...] = (16, CONNECTIONS)
    sizes: tuple[int, ...] = (1_000, 100_000)
    soak: int = 100_000
    """Requests to each database, at the least."""
    soak_minutes: float = 0
    """How long, for each database, at the least."""


def checks(house: House, plan: Plan) -> Report:
    """Session checks, to a hello on Granian; with a hello on gunicorn, as Flask is usually served, beside it."""
    hello = house.hello_on_granian()
    yardstick = [hello, replace(hello, name="the same, once more")]
    contestants = [*yardstick, house.hello_on_gunicorn()]
    for database in DATABASES:
        population = house.population(database, _FEW)
        server = house.authsvc(population).wait_until_up()
        contestants += [_checks(house, server, population, path, f"{path}, {database}") for path in (VERIFY, INFO)]
    report = Report("Session checks", ("connections", *_COLUMNS, "of hello, Granian", "CPU, of hello, Granian"))
    for connections in plan.connections:
        samples = _turns(contestants, plan, connections=connections)
        # A second try in each round: a yardstick should stand still.
        tries = zip(*(samples[contestant.name] for contestant in yardstick), strict=True)
        best = [max(pair, key=lambda sample: sample.result.rate) for pair in tries]
        for name, taken in samples.items():
            ratios = _rates(taken).over(_rates(best)), _cpu(taken).over(_cpu(best))
            report.rows.append((str(connections), name, *_numbers(taken), *(f"{ratio:.2f}" for ratio in ratios)))
        for path in (VERIFY, INFO):
            for database, least in (("SQLite", 0.8), ("PostgreSQL", 0.65)):
                ratio = _rates(samples[f"{path}, {database}"]).over(_rates(best))
                promise = f"{path} on {database}, {connections} connections, of hello on Granian"
                report.goals.append(at_least(promise, ratio, least))
    return report


def logins(house: House, plan: Plan) -> Report:
    """Right logins, to bare argon2id with the same parameters."""
    contestants = []
    for database in DATABASES:
        population = house.population(database, _FEW)
        server = house.authsvc(population).wait_until_up()
        asked = _logins(PASSWORD)
        contestants.append(Contestant(database, server.port, server.process.pid, asked, population))
    bare: list[tuple[float, float]] = []
    samples = _turns(contestants, plan, first=lambda: bare.append(_bare_hashes(plan.seconds)))
    hashes, hash_cpu = Spread([rate for rate, _ in bare]), Spread([cpu for _, cpu in bare])
    report = Report("Logins", (*_COLUMNS[:-1], "rate, of bare", "CPU, of bare"))
    report.rows.append(("bare argon2id, a thread per core", f"{hashes:.0f}", "", "", f"{hash_cpu:.0f}", "", ""))
    for name, taken in samples.items():
        ratio = _rates(taken).over(hashes)
        report.rows.append((name, *_numbers(taken)[:4], f"{ratio:.2f}", f"{_cpu(taken).over(hash_cpu):.2f}"))
        report.goals.append(at_least(f"logins on {name}, of bare argon2id", ratio, 0.9))
    return report


def flood(house: House, plan: Plan) -> Report:
    """Session checks while 64 clients guess passwords as fast as they can, to the quiet just before."""
    servers = {}
    for database in DATABASES:
        population = house.population(database, _FEW)
        server = house.authsvc(population).wait_until_up()
        servers[database] = server, _checks(house, server, population, VERIFY, database)
    rounds = [{name: _flooded(*server, plan.seconds) for name, server in servers.items()} for _ in range(plan.rounds)]
    report = Report(
        "Session checks under a flood of 64 clients who guess passwords",
        ("", "quiet, a second", "flooded", "ratio", "p99 ms", "flooded", "ratio", "MiB", "flooded", "guesses a second"),
    )
    for name in servers:
        states = [taken[name] for taken in rounds]
        quiet, flooded = _rates([state.quiet for state in states]), _rates([state.flooded for state in states])
        calm = Spread([state.quiet.result.p99 * 1000 for state in states])
        late = Spread([state.flooded.result.p99 * 1000 for state in states])
        memory = [Spread([state.memory[n] for state in states]) for n in (0, 1)]
        guesses = Spread([state.guesses for state in states])
        report.rows.append(
            (
                *(name, f"{quiet:.0f}", f"{flooded:.0f}", f"{flooded.over(quiet):.2f}"),
                *(f"{calm:.1f}", f"{late:.1f}", f"{late.over(calm):.1f}"),
                *(f"{memory[0]:.0f}", f"{memory[1]:.0f}", f"{guesses:.0f}"),
            )
        )
        report.goals += [
            at_least(f"flooded checks on {name}, of their quiet rate", flooded.over(quiet), 0.6),
            at_most(f"flooded p99 on {name}, of the quiet p99", late.over(calm), 3),
            at_most(f"memory under the flood, {name},", Spread([max(memory[1].values)]), 220, " MiB"),
        ]
    return report


def start(house: House, plan: Plan) -> Report:
    """From the start of `python wsgi.py` on an existing database to the first session check that it answers."""
    populations = {database: house.population(database, _FEW) for database in DATABASES}
    seconds: dict[str, list[float]] = {name: [] for name in ("hello, Granian", *DATABASES)}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    for _ in range(plan.rounds):
        before = time.perf_counter()
        hello = house.hello_on_granian()
        seconds[hello.name].append(time.perf_counter() - before)
        cpu[hello.name].append(cpu_seconds(hello.pid))
        for database, population in populations.items():
            before = time.perf_counter()
            server = house.authsvc(population)
            wait_for(lambda server=server, token=population.tokens[0]: _answers(server, token))
            seconds[database].append(time.perf_counter() - before)
            cpu[database].append(cpu_seconds(server.process.pid))
            server.stop()
    report = Report("Start to first answer", ("", "seconds", "of hello, Granian", "CPU seconds"))
    for name, taken in seconds.items():
        ratio = Spread(taken).over(Spread(seconds["hello, Granian"]))
        report.rows.append((name, f"{Spread(taken):.2f}", f"{ratio:.1f}", f"{Spread(cpu[name]):.2f}"))
        if name in DATABASES:
            report.goals.append(at_most(f"start on {name}", Spread(taken), 1, " s"))
    return report


def statements(house: House, _plan: Plan) -> Report:
    """What each request asks of the database, once the service has been running for a while."""
    report = Report(
        "Statements and round trips per request", ("", *(f"{n}, {what}" for n in DATABASES for what in _COUNTED))
    )
    counts = {database: _counted(house.population(database, _FEW)) for database in DATABASES}
    for name in counts["SQLite"]:
        report.rows.append((name, *(str(counts[database][name][what]) for database in DATABASES for what in _COUNTED)))
    return report


def growth(house: House, plan: Plan) -> Report:
    """Session checks as accounts and live sessions grow."""
    contestants = []
    for database in DATABASES:
        for size in plan.sizes:
            population = house.population(database, size)
            server = house.authsvc(population).wait_until_up()
            contestants.append(_checks(house, server, population, VERIFY, f"{database}, {size:,} sessions"))
    samples = _turns(contestants, plan)
    fewest, most = f"{plan.sizes[0]:,}", f"{plan.sizes[-1]:,}"
    report = Report(
        f"Session checks ({VERIFY}) as accounts and sessions grow",
        (*_COLUMNS, f"rate, of {fewest}", f"lowest CPU, of {fewest}"),
    )
    for database in DATABASES:
        few = samples[f"{database}, {fewest} sessions"]
        for size in plan.sizes:
            taken = samples[f"{database}, {size:,} sessions"]
            rate, cpu = _rates(taken).over(_rates(few)), _cpu(taken).lowest.over(_cpu(few).lowest)
            report.rows.append((f"{database}, {size:,}", *_numbers(taken), f"{rate:.2f}", f"{cpu.median:.2f}"))
        promise = f"CPU of a check on {database} among {most}, of one among {fewest}"
        report.goals.append(at_most(promise, cpu, 1.1))
    return report


def soak(house: House, plan: Plan) -> Report:
    """What a service holds after ever more requests of all kinds: memory, file handles, threads."""
    report = Report("What grows with requests", ("", "requests", "minutes", "MiB", "file handles", "threads"))
    for database in DATABASES:
        population = house.population(database, _FEW)
        server = house.authsvc(population).wait_until_up()
        contestant = Contestant(database, server.port, server.process.pid, _all_kinds(population), population)
        taken = _soaked(contestant, plan)
        for answered, seconds, (mib, *counted) in taken:
            report.rows.append((database, f"{answered:,}", f"{seconds / 60:.1f}", f"{mib:.0f}", *map(str, counted)))
        # The first tenth fills pools and caches.
        for what, begun, ended in zip(("memory", "file handles", "threads"), taken[1][2], taken[-1][2], strict=True):
            report.goals.append(at_most(f"{what} on {database}, of those after a tenth", Spread([ended / begun]), 1.05))
    return report


def _soaked(contestant: Contestant, plan: Plan) -> list[tuple[int, float, tuple[float, int, int]]]:
    """Before and after each step: the requests answered, the seconds taken, and what the service holds."""
    answered, begun = 0, time.monotonic()
    taken = [(0, 0.0, held(contestant.pid))]
    for step in range(1, _STEPS + 1):
        requests, seconds = (whole * step / _STEPS for whole in (plan.soak, plan.soak_minutes * 60))
        while answered < requests or time.monotonic() - begun < seconds:
            answered += send(contestant.port, contestant.requests, plan.seconds, refused_too=True).answered
        contestant.settle()
        taken.append((answered, time.monotonic() - begun, held(contestant.pid)))
    return taken


def _all_kinds(population: Population) -> list[bytes]:
    """For each token a login, right or wrong, and among checks what else there is to ask, refused or not."""
    asked = []
    for number, token in enumerate(population.tokens[:500]):
        session = {"satoken": token}
        right, wrong = (
            urlencode({"username": account_name(number), "password": password}) for password in (PASSWORD, "wrong")
        )
        others = [
            request(LOGIN, {}, (right, wrong)[number % 2]),
            request("/AccAdmin/doLogin", {}, right.replace("username", "key")) if number % 8 == 0 else b"",
            request("/api/auth/logout", session, "x=1") if number % 100 == 99 else b"",
            request(f"{VERIFY}?permission=in-system", session),
            request("/api/auth/sessions", session),
            request(VERIFY, {"Authorization": f"Bearer {token}"}),
            request(VERIFY, {"Cookie": f"satoken={token}", "Origin": "https://elsewhere.example"}),
            request(VERIFY, {"satoken": token[:-4] + "AAAA"}),
            request(LOGIN, {"Sec-Fetch-Site": "cross-site"}, right),
            request(LOGIN, {}, "username=%ff"),
            request(LOGIN, {}, "x" * 20_000),
            *(request(path, {}) for path in ("/healthz", "/readyz", "/metrics", "/login", "/docs", "/api/auth/nosuch")),
        ]
        asked += [request(path, session) for path in (VERIFY, INFO) * 40] + list(filter(None, others))
    return asked


def transfer(house: House, plan: Plan) -> Report:
    """Export and import of 20,000 accounts with their sessions, by the commands."""
    report = Report("Export and import", ("", "seconds", "peak MiB"))
    for database in DATABASES:
        source = house.population(database, _MANY)
        source.hash_as_the_service()
        seconds: dict[str, list[float]] = {"export": [], "import": []}
        memory: dict[str, list[float]] = {name: [] for name in seconds}
        for _ in range(plan.rounds):
            target = house.population(database, 0)
            with tempfile.NamedTemporaryFile() as file:
                for name, url, options in (("export", source.url, ["--sessions"]), ("import", target.url, [])):
                    took, peak = _command(url, "data", name, *options, file.name)
                    seconds[name].append(took)
                    memory[name].append(peak)
        for (name, taken), most in zip(seconds.items(), (10, 30), strict=True):
            report.rows.append((f"{name}, {database}", f"{Spread(taken):.1f}", f"{Spread(memory[name]):.0f}"))
            report.goals.append(at_most(f"{name} on {database}", Spread(taken), most, " s"))
            report.goals.append(at_most(f"{name} on {database}, peak", Spread(memory[name]), 100, " MiB"))
    return report


# What the parts share


def _command(url: str, *arguments: str) -> tuple[float, float]:
    """How long a command takes in seconds, and the most memory in MiB."""
    environ = {"PATH": os.environ["PATH"], "AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}
    before, flask = time.perf_counter(), [sys.executable, "-m", "flask", *arguments]
    quiet = subprocess.DEVNULL
    with (
        subprocess.Popen(flask, cwd=ROOT, env=environ, stdout=quiet, stderr=quiet) as process,
        peak_memory(process.pid) as samples,
    ):
        assert process.wait() == 0
    return time.perf_counter() - before, max(samples)


def _checks(house: House, server: Server, population: Population, path: str, name: str) -> Contestant:
    asked = [request(path, {"satoken": token}) for token in population.tokens]
    # The console's HTTP status is 200 whatever the verdict: ask once, and see.
    answer = server.send("GET", path, {"satoken": population.tokens[0]}, b"")
    assert answer.json["code"] == 200, answer
    database = house.database_pid(population)
    return Contestant(name, server.port, server.process.pid, asked, population, database)


def _logins(password: str) -> list[bytes]:
    credentials = [urlencode({"username": account_name(n), "password": password}) for n in range(_FEW)]
    return [request(LOGIN, {}, body) for body in credentials]


def _turns(
    contestants: list[Contestant],
    plan: Plan,
    first: Callable[[], object] = lambda: None,
    connections: int = CONNECTIONS,
) -> dict[str, list[Sample]]:
    """All contestants' samples; `first` has its turn at the beginning of each round."""
    for contestant in contestants:
        contestant.turn(1, connections)  # to warm up
    samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in contestants}
    for _ in range(plan.rounds):
        first()
        for contestant in contestants:
            samples[contestant.name].append(contestant.turn(plan.seconds, connections))
    return samples


def _rates(samples: list[Sample]) -> Spread:
    return Spread([sample.result.rate for sample in samples])


def _cpu(samples: list[Sample]) -> Spread:
    """Of server and database."""
    return Spread([sample.cpu + sample.database_cpu for sample in samples])


def _numbers(samples: list[Sample]) -> list[str]:
    database_cpu = Spread([sample.database_cpu for sample in samples])
    return [
        f"{_rates(samples):.0f}",
        f"{Spread([sample.result.p50 * 1000 for sample in samples]):.1f}",
        f"{Spread([sample.result.p99 * 1000 for sample in samples]):.1f}",
        f"{Spread([sample.cpu for sample in samples]):.0f}",
        f"{database_cpu:.0f}" if any(database_cpu.values) else "",
    ]


def _bare_hashes(seconds: float) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.bench.hashing", str(seconds)]
    rate, cpu = map(float, subprocess.check_output(command, cwd=ROOT).split())
    return rate, cpu


@dataclass(frozen=True)
class _Flooded:
    quiet: Sample
    flooded: Sample
    memory: tuple[float, float]
    guesses: float


def _flooded(server: Server, contestant: Contestant, seconds: float) -> _Flooded:
    contestant.turn(1)  # to warm up
    with peak_memory(server.process.pid) as quiet_memory:
        quiet = contestant.turn(seconds)
    guesses = _logins("a wrong password")
    with load_in_background(server.port, guesses, 10 * seconds + 60, _FLOODERS):
        begun = server.log_file.stat().st_size
        wait_for(lambda: _guesses(server.log_file, begun) >= _FLOODERS)
        before, begun = time.monotonic(), server.log_file.stat().st_size
        with peak_memory(server.process.pid) as memory:
            flooded = contestant.turn(seconds, settles=False)
        refused = _guesses(server.log_file, begun) / (time.monotonic() - before)
    contestant.settle()
    return _Flooded(quiet, flooded, (max(quiet_memory), max(memory)), refused)


def _guesses(log_file: Path, begin: int) -> int:
    """How many wrong guesses a log tells of, from an offset on: nothing else is refused."""
    with log_file.open("rb") as log:
        log.seek(begin)
        return log.read().count(b'"event": "login.refused"')


def _answers(server: Server, token: str) -> bool:
    try:
        return server.auth.call("GET", "/verify", token=token).status == 200
    except OSError:
        assert server.process.poll() is None, server.errors
        return False


_COUNTED = ("statements", "round trips")


def _counted(population: Population) -> dict[str, Counter[str]]:
    """Statements and round trips of each kind of request, in this process.

    Each statement is one round trip, BEGIN and COMMIT too. Connections are in autocommit mode, so the driver adds none.
    """
    logs.configure("CRITICAL", sys.stderr)
    app = create_app(load({"AUTHSVC_DATABASE_URL": population.url, "AUTHSVC_SECRET_KEY": SECRET_KEY}))
    auth, console = Auth(in_process(app)), Console(in_process(app))
    token, name = population.tokens[0], account_name(0)
    counted: Counter[str] = Counter()
    counts = {}
    asks: dict[str, Callable[[], object]] = {
        f"{VERIFY}": lambda: auth.call("GET", "/verify", token=token),
        f"{INFO}": lambda: console.info(token),
        "verify, no session": lambda: auth.call("GET", "/verify", token="x"),
        "login": lambda: auth.login(name, PASSWORD),
        "login, wrong password": lambda: auth.login(name, "a wrong password"),
        "logout": lambda: auth.logout(auth.token(name, PASSWORD)),
    }
    population.see()
    with ExitStack() as exits:
        _listen(app, counted, exits)
        for what, ask in asks.items():
            ask()
            counted.clear()
            ask()
            counts[what] = counted.copy()
    # Or else it counts something else than what it says.
    assert counts[VERIFY]["statements"]
    # A logout needs a login first.
    counts["logout"].subtract(counts["login"])
    close(app)
    return counts


def _listen(app: Flask, counted: Counter[str], exits: ExitStack) -> None:
    """Count at the driver: a session check does not go through SQLAlchemy's execution, whose events miss it."""

    def count(statement: object) -> None:
        counted["round trips"] += 1
        counted["statements"] += not str(statement).startswith(("BEGIN", "COMMIT"))

    def trace(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(count)

    def execute(cursor: Any, statement: Any, *arguments: Any, **options: Any) -> Any:
        count(statement)
        return driver_execute(cursor, statement, *arguments, **options)

    driver_execute = psycopg.Cursor.execute
    exits.enter_context(patch.object(psycopg.Cursor, "execute", execute))
    with app.app_context():
        event.listen(db.engine, "connect", trace)


PARTS: dict[str, Callable[[House, Plan], Report]] = {
    part.__name__: part for part in (checks, logins, flood, start, statements, growth, transfer, soak)
}
