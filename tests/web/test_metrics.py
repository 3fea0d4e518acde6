"""What is counted, and that it is right whichever worker answers and whoever of them dies."""

import os
import re
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from authsvc import __version__, errors
from authsvc.parts import parts
from tests.conftest import Clock, Log, MakeApp, StartServer
from tests.databases import PASSWORD, Databases
from tests.dialects import Auth, Console, Send, in_process
from tests.refusals import UNKNOWN_PATH
from tests.servers import ROOT, Server, wait_for

REQUESTS = "http_server_request_duration_seconds"
LABELS = {
    REQUESTS: {"http_request_method", "http_route", "http_response_status_code"},
    "authsvc_logins_total": {"outcome"},
    "authsvc_hash_seconds": set(),
    "authsvc_logins_waiting": set(),
    "authsvc_database_seconds": {"operation"},
    "authsvc_database_errors_total": set(),
    "authsvc_build_info": {"version"},
}
"""What the contract names, with the labels of each."""


class Metrics:
    """What `/metrics` says, as the field's own parser reads it."""

    def __init__(self, send: Send) -> None:
        answer = send("GET", "/metrics", {}, b"")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.families = list(text_string_to_metric_families(answer.body.decode()))
        self.samples = [sample for family in self.families for sample in family.samples]

    def __call__(self, name: str, /, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; of a histogram, how many there were."""
        names = {name, f"{name}_count"}
        return sum(
            sample.value for sample in self.samples if sample.name in names and labels.items() <= sample.labels.items()
        )

    def values(self, name: str, label: str) -> Mapping[str, float]:
        """The samples of this name, by one label."""
        return {each.labels[label]: self(name, **{label: each.labels[label]}) for each in self.samples
                if each.name in {name, f"{name}_count"}}  # fmt: skip


@pytest.fixture
def app(make_app: MakeApp, log: Log) -> Flask:  # noqa: ARG001 - logins are counted where they are logged
    """The application, with metrics."""
    return make_app(AUTHSVC_METRICS="on")


@pytest.fixture
def send(app: Flask) -> Send:
    """Carries requests to it."""
    return in_process(app)


def test_it_is_off_by_default(make_app: MakeApp) -> None:
    """Then the path is as unknown as any other."""
    assert Auth.verdict(in_process(make_app())("GET", "/metrics", {}, b"")) == UNKNOWN_PATH.auth


def test_it_has_the_promised_names_and_labels(send: Send) -> None:
    """And no other; one that has no labels is there before anything has happened."""
    Auth(send).verify(Auth(send).token("user", PASSWORD))
    found: dict[str, set[str]] = {}
    for sample in Metrics(send).samples:
        name = next(name for name in LABELS if sample.name.startswith(name))
        assert sample.name.removeprefix(name) in {"", "_bucket", "_count", "_sum"}
        found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert found == LABELS


def test_each_has_its_type_and_says_what_it_is(send: Send) -> None:
    """As Prometheus and whoever reads it want to know."""
    types = {family.name: family.type for family in Metrics(send).families if family.documentation}
    assert sorted(types.values()) == ["counter", "counter", "gauge", "gauge", "histogram", "histogram", "histogram"]


def test_a_request_counts_under_its_rule(send: Send) -> None:
    """On the fast path, on Flask's, in both dialects, refused or not."""
    auth, console = Auth(send), Console(send)
    token = auth.token("user", PASSWORD)
    for _ in range(3):
        auth.verify(token)
    auth.verify(token, "dev")
    auth.verify(None)
    console.info(token)
    metrics = Metrics(send)

    def counted(method: str, route: str, status: str) -> float:
        return metrics(REQUESTS, http_request_method=method, http_route=route, http_response_status_code=status)

    assert counted("GET", "/api/auth/verify", "200") == 3
    assert counted("GET", "/api/auth/verify", "403") == 1
    assert counted("GET", "/api/auth/verify", "401") == 1
    assert counted("POST", "/api/auth/login", "200") == 1
    assert counted("GET", "/AccAdmin/getLoginInfo", "200") == 1
    assert metrics(REQUESTS) == 7


def test_what_strangers_choose_is_no_label(send: Send) -> None:
    """Paths that fit no rule are one, methods that HTTP does not define are another."""
    for number in range(5):
        send("GET", f"/unknown/{number}", {}, b"")
        send(f"ODD{number}", "/api/auth/login", {}, b"")
    metrics = Metrics(send)
    assert metrics(REQUESTS, http_route="unmatched", http_request_method="GET", http_response_status_code="404") == 5
    assert metrics(REQUESTS, http_route="unmatched", http_request_method="_OTHER") == 5


def test_there_is_an_end_to_what_is_told_apart(app: Flask, send: Send) -> None:
    """More than fits is counted nowhere, and disturbs nothing."""
    metrics = app.extensions["authsvc"].metrics
    for number in range(2000):
        metrics.login(f"cause_{number}")
    Auth(send).token("user", PASSWORD)
    assert len(Metrics(send).values("authsvc_logins_total", "outcome")) < 1024


def test_logins_count_by_their_outcome(send: Send) -> None:
    """The causes are the log's."""
    auth, console = Auth(send), Console(send)
    auth.token("user", PASSWORD)
    console.token("user", PASSWORD)
    auth.login("nobody", "wrong-guess")
    for _ in range(6):
        console.login("user", "wrong-guess")
    assert Metrics(send).values("authsvc_logins_total", "outcome") == {
        "succeeded": 2,
        "unknown_account": 1,
        "wrong_password": 5,
        "throttled": 1,
    }


def test_the_database_is_timed(send: Send) -> None:
    """What checks, reads and writes take."""
    before = Metrics(send).values("authsvc_database_seconds", "operation")
    auth = Auth(send)
    auth.verify(auth.token("user", PASSWORD))
    after = Metrics(send)
    assert {
        name: number - before.get(name, 0)
        for name, number in after.values("authsvc_database_seconds", "operation").items()
    } == {
        "check": 1,
        "read": 1,
        "write": 1,
    }
    assert after("authsvc_database_errors_total") == 0


@pytest.mark.usefixtures("log")
def test_errors_of_the_database_count(make_app: MakeApp, tmp_path: Path) -> None:
    """Each request that it lets down."""
    send = in_process(make_app(AUTHSVC_METRICS="on", AUTHSVC_DATABASE_URL=f"sqlite:///{tmp_path}/absent/authsvc.db"))
    for _ in range(3):
        assert Auth(send).login("user", PASSWORD).status == 503
    metrics = Metrics(send)
    assert metrics("authsvc_database_errors_total") == 3
    assert metrics("authsvc_logins_total", outcome="unavailable") == 3


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_check_that_finds_somebody_writing_is_no_error(app: Flask, send: Send, clock: Clock) -> None:
    """SQLite has one writer at a time. The check does not wait for it, and the session's next use is noted."""
    token = Auth(send).token("user", PASSWORD)
    clock.advance(60)
    with parts(app).database.write():
        assert Auth(send).verify(token).status == 200
    assert Metrics(send)("authsvc_database_errors_total") == 0


def test_the_version_is_told(send: Send) -> None:
    """Which code each replica runs."""
    assert Metrics(send)("authsvc_build_info", version=__version__) == 1


# Real servers


def verified(server: Server) -> float:
    """How many checks its workers have counted."""
    return Metrics(server.send)(REQUESTS, http_route="/api/auth/verify")


def kill_a_worker(server: Server) -> None:
    """As the kernel does where memory is short; return when another serves in its place."""
    ready = server.log.count('"database.ready"')
    pid = server.process.pid
    os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), signal.SIGKILL)
    wait_for(lambda: server.log.count('"database.ready"') > ready)


def test_whichever_worker_answers_it_tells_of_all(databases: Databases, start_server: StartServer) -> None:
    """Exactly, and so it stays when workers are killed and replaced, more often than there are workers."""
    server = start_server(databases.copy(), AUTHSVC_WORKERS="2", AUTHSVC_METRICS="on")
    token = server.auth.token("user", PASSWORD)

    def check(times: int) -> None:
        for _ in range(times):
            assert server.auth.verify(token).status == 200

    check(100)
    assert [verified(server) for _ in range(20)] == [100] * 20
    for killed in range(1, 7):
        kill_a_worker(server)
        check(10)
        assert [verified(server) for _ in range(4)] == [100 + 10 * killed] * 4
    metrics = Metrics(server.send)
    assert metrics("authsvc_logins_total", outcome="succeeded") == 1
    assert metrics("authsvc_hash_seconds") == 2  # matched, and hashed anew: the tests' hashes are cheap ones
    assert metrics("authsvc_logins_waiting") == 0


def test_a_login_that_waits_is_seen(sqlite: Databases, start_server: StartServer) -> None:
    """Before it has its turn."""
    server = start_server(sqlite.copy(), AUTHSVC_METRICS="on", AUTHSVC_LIMIT_ACCOUNT_ADDRESS="1000/300")
    with ThreadPoolExecutor(32) as pool:
        logins = [pool.submit(server.auth.login, "user", PASSWORD) for _ in range(64)]
        wait_for(lambda: Metrics(server.send)("authsvc_logins_waiting") > 1 or all(each.done() for each in logins))
        assert not all(each.done() for each in logins)
    assert Metrics(server.send)("authsvc_logins_waiting") == 0


# What deploy/README.md says

MONITORING = (ROOT / "deploy/README.md").read_text("utf-8").partition("\n## Monitoring\n")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"^```(?:yaml|promql)\n(.*?)^```$", MONITORING, re.MULTILINE | re.DOTALL)


def test_its_table_has_each_metric_with_its_labels() -> None:
    """And no other."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?)\|", MONITORING, re.MULTILINE)
    assert {name: set(re.findall(r"\w+", labels)) for name, labels in rows} == LABELS


def test_its_alerts_and_queries_ask_for_what_is_there() -> None:
    """Names, suffixes and labels: a query that is misspelt alerts nobody."""
    queries = "\n".join(EXAMPLES)
    suffixes = ("", "_bucket", "_count", "_sum")
    asked = set(re.findall(r"\b(?:http_server|authsvc)_[a-z_]+", queries))
    assert asked <= {f"{name}{suffix}" for name in LABELS for suffix in suffixes}
    assert set(LABELS) <= {re.sub("_(bucket|count|sum)$", "", name) for name in asked}
    labels = set(re.findall(r"(?<=[{,])(\w+)(?==~?\")", queries)) | set(
        re.findall(r"\w+", " ".join(re.findall(r"by \((.*?)\)", queries)))
    )
    assert labels - {"job", "event", "le", "instance"} <= set().union(*LABELS.values())


def test_its_alerts_know_the_outcomes_by_name() -> None:
    """Each is the cause of a refusal."""
    causes = {
        each.cause for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Refusal)
    }
    asked = re.findall(r'outcome=~?"(.*?)"', "\n".join(EXAMPLES))
    assert asked
    assert {word for each in asked for word in each.split("|")} <= causes


def test_its_alerts_are_yaml() -> None:
    """Each has a name and an expression; what is more, Prometheus and Loki know."""
    groups = [group for text in EXAMPLES if text.startswith("groups:") for group in yaml.safe_load(text)["groups"]]
    rules = [rule for group in groups for rule in group["rules"]]
    assert all(set(rule) <= {"alert", "expr", "for", "annotations"} and rule["expr"] for rule in rules)
    assert [rule["alert"] for rule in rules] == [
        *("ReplicaAway", "LoginsRefused", "LoginsThrottled", "LoginsWait", "DatabaseAway", "ChecksSlow"),
        "AccountDamaged",
    ]
