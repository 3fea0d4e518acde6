"""Numbers for machines, over all workers of a replica: counted by each in a memory that all of them share.

The multi-process mode of prometheus_client has files for each process: it made a session check a tenth dearer, and a
crash loop fills the disk. This takes a third of that, and a crash leaves nothing behind.
"""

import fcntl
import logging
import mmap
import os
import sys
import tempfile
import threading
from bisect import bisect_left
from collections.abc import Iterator

from authsvc.events import Event

REQUESTS = "http_server_request_duration_seconds"
LOGINS = "authsvc_logins_total"
HASHES = "authsvc_hash_seconds"
WAITING = "authsvc_logins_waiting"
DATABASE = "authsvc_database_seconds"
DATABASE_ERRORS = "authsvc_database_errors_total"

UNMATCHED, OTHER = "unmatched", "_OTHER"
"""The route of a request that fits no rule, and the method of one that HTTP does not define (OpenTelemetry's name)."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, in seconds; the last bucket has none."""

_SUM = len(BOUNDS) + 1  # behind the buckets
NUMBERS = _SUM + 1
"""How many numbers a metric has for one set of labels: its buckets and their sum, or one that counts."""

# A worker's part of the memory is a row of records, each of a key's bytes and its numbers. The first record says how
# many records are in use; its numbers take what finds no room.
_NUMBER = 8  # bytes
_KEY = 128
_RECORD = _KEY + NUMBERS * _NUMBER  # bytes
_RECORDS = 1024


class Metrics:
    """What is counted. This one does nothing with it: metrics are off."""

    def request(self, method: str, route: str | None, status: str, seconds: float) -> None:
        """A request was answered; `route` is the rule that it fits, never its path."""
        self._observe((REQUESTS, method if method in _METHODS else OTHER, route or UNMATCHED, status), seconds)

    def login(self, outcome: str) -> None:
        """A login succeeded, or was refused with this cause."""
        self._add((LOGINS, outcome))

    def hashed(self, seconds: float) -> None:
        """A password was hashed or matched."""
        self._observe((HASHES,), seconds)

    def waiting(self, number: int) -> None:
        """So many logins wait for their hash, including the one whose turn it is."""
        self._set((WAITING,), number)

    def database(self, operation: str, seconds: float) -> None:
        """The database was asked."""
        self._observe((DATABASE, operation), seconds)

    def database_error(self) -> None:
        """The database did not do what it was asked."""
        self._add((DATABASE_ERRORS,))

    def _add(self, key: tuple[str, ...]) -> None:
        pass

    def _set(self, key: tuple[str, ...], number: float) -> None:
        pass

    def _observe(self, key: tuple[str, ...], seconds: float) -> None:
        pass


class SharedMetrics(Metrics):
    """Counts in a memory that is shared with whatever this process forks.

    Each process counts in a part that no other living process writes to. When it ends, however it ends, the system
    takes its lock on that part away, and the next to start goes on counting there: nothing is lost and nothing grows.
    """

    def __init__(self, workers: int) -> None:
        # While they are replaced there are two of each, and there is the process that started them.
        self._parts = range(2 * workers + 1)
        self._file = _memory(len(self._parts) * _RECORDS * _RECORD)
        self._bytes = mmap.mmap(self._file, 0)
        self._numbers = memoryview(self._bytes).cast("d")
        self._claim()
        os.register_at_fork(after_in_child=self._claim)
        _count_logins(self)

    def totals(self) -> dict[tuple[str, ...], list[float]]:
        """The sums over all workers, those that have ended too, by name and labels.

        Of a counter or gauge the first number counts; a histogram's are its buckets, each by itself, and their sum.
        """
        totals: dict[tuple[str, ...], list[float]] = {}
        for part in self._parts:
            for key, at in self._records(part):
                numbers = self._numbers[at : at + NUMBERS].tolist()
                totals[key] = [
                    one + other for one, other in zip(totals.get(key, [0.0] * NUMBERS), numbers, strict=True)
                ]
        return totals

    def _claim(self) -> None:
        """Take a part that is nobody's, with what its last owner counted."""
        self._lock = threading.Lock()
        self._part = next(filter(self._is_mine, self._parts))
        self._places = dict(self._records(self._part))
        self.waiting(0)

    def _is_mine(self, part: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, part)
        except OSError:
            return False  # its owner lives
        return True

    def _records(self, part: int) -> Iterator[tuple[tuple[str, ...], int]]:
        """The keys of a part, and where the numbers of each begin."""
        start = part * _RECORDS * _RECORD
        used = int(self._numbers[start // _NUMBER])
        for at in range(start + _RECORD, start + (used + 1) * _RECORD, _RECORD):
            key = self._bytes[at : at + _KEY].rstrip(b"\0").decode()
            yield tuple(key.split("\n")), (at + _KEY) // _NUMBER

    def _new_place(self, key: tuple[str, ...]) -> int:
        """Where the numbers of a key begin from now on. Call it under the lock, as the places are shared by threads."""
        start = self._part * _RECORDS * _RECORD
        used = int(self._numbers[start // _NUMBER]) + 1
        text = "\n".join(key).encode()
        if used == _RECORDS or len(text) > _KEY:
            return (start + _KEY) // _NUMBER
        at = start + used * _RECORD
        self._bytes[at : at + _KEY] = text.ljust(_KEY, b"\0")
        # Last: whoever is killed before leaves nothing, and nobody reads half a key.
        self._numbers[start // _NUMBER] = used
        self._places[key] = (at + _KEY) // _NUMBER
        return self._places[key]

    def _add(self, key: tuple[str, ...]) -> None:
        with self._lock:
            self._numbers[self._places.get(key) or self._new_place(key)] += 1

    def _set(self, key: tuple[str, ...], number: float) -> None:
        with self._lock:
            self._numbers[self._places.get(key) or self._new_place(key)] = number

    def _observe(self, key: tuple[str, ...], seconds: float) -> None:
        numbers, bucket = self._numbers, bisect_left(BOUNDS, seconds)
        with self._lock:
            at = self._places.get(key) or self._new_place(key)
            numbers[at + bucket] += 1
            numbers[at + _SUM] += seconds


def _memory(size: int) -> int:
    """A file that is in no folder: it takes memory as it is used, and goes with its last process."""
    if sys.platform == "linux":  # needs no writable folder
        file = os.memfd_create("authsvc-metrics")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file


class _Logins(logging.Handler):
    """Counts what the log tells of logins: the policy need not know that somebody counts."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def emit(self, record: logging.LogRecord) -> None:
        event = record.getMessage()
        if event == Event.LOGIN_SUCCEEDED:
            self._metrics.login("succeeded")
        elif event == Event.LOGIN_REFUSED:
            # Why the database is unavailable is told elsewhere.
            self._metrics.login(record.__dict__["fields"]["cause"].partition(":")[0])


def _count_logins(metrics: Metrics) -> None:
    """From now on those of this process are counted here, and nowhere else."""
    audit = logging.getLogger("authsvc.audit")
    for handler in [each for each in audit.handlers if isinstance(each, _Logins)]:
        audit.removeHandler(handler)
    audit.addHandler(_Logins(metrics))
