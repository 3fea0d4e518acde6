"""A hasher that can be watched, and held up."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import argon2


class WatchedHasher(argon2.PasswordHasher):
    """As cheap as the tests' other hashers; tells how often it was asked, and waits where it is told to."""

    def __init__(self) -> None:
        cheapest = argon2.profiles.CHEAPEST
        super().__init__(
            cheapest.time_cost, cheapest.memory_cost, cheapest.parallelism, cheapest.hash_len, cheapest.salt_len
        )
        self.asked = 0
        """Hashes made and matched so far."""
        self.most_at_once = 0
        self._at_work = 0
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Let every hash from now on wait."""
        self._open.clear()

    def let_go(self) -> None:
        """Let them all go on."""
        self._open.set()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        """Make one."""
        with self._watched():
            return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - the library's name
        """Match one."""
        with self._watched():
            return super().verify(hash, password)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        with self._lock:
            self.asked += 1
            self._at_work += 1
            self.most_at_once = max(self.most_at_once, self._at_work)
        self._open.wait()
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
