"""What many threads look up at once, looked up together.

A round trip to a database server costs both sides more than the row that it brings. So whatever is wanted while one is
under way shares the next. Nobody waits for company: who comes alone asks alone, at once.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Batch(Generic[_K, _V]):
    """Keys that are looked up together, and what was found."""

    def __init__(self) -> None:
        self.keys: list[_K] = []
        self.values: Mapping[_K, _V] = {}
        self.error: BaseException | None = None
        self._pending = threading.Lock()
        self._pending.acquire()

    def finish(self) -> None:
        """Let those go on who wait."""
        self._pending.release()

    def wait(self) -> None:
        """Return when it is finished."""
        # One lets the next go on: woken all at once, threads would only wait again, for the interpreter's lock.
        with self._pending:
            pass


class Batcher(Generic[_K, _V]):
    """Looks up one batch of keys at a time, or beside one that hangs. No value is ever kept for a later call."""

    def __init__(self, look_up: Callable[[list[_K]], Mapping[_K, _V]], patience: float) -> None:
        """Use `look_up`, which must come to an end; wait up to `patience` seconds for the batch before one's own."""
        self._look_up = look_up
        self._patience = patience
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next = _Batch[_K, _V]()

    def get(self, key: _K) -> _V | None:
        """The value of `key`, looked up after this call began; None where it has none. Raises what the lookup does."""
        with self._lock:
            batch = self._next
            batch.keys.append(key)
            is_first = len(batch.keys) == 1
        if is_first:
            self._look_up_all(batch)
        else:
            batch.wait()
        if batch.error:
            raise batch.error
        return batch.values.get(key)

    def _look_up_all(self, batch: _Batch[_K, _V]) -> None:
        is_our_turn = self._turn.acquire(timeout=self._patience)
        # Who is about to ask, and only waits for the interpreter's lock, can come along.
        size = 0
        while size < len(batch.keys):
            size = len(batch.keys)
            time.sleep(0)
        # Before it is looked up: who comes later must not be told what was true before, such as a session's being live.
        with self._lock:
            self._next = _Batch()
        try:
            batch.values = self._look_up(batch.keys)
        except BaseException as error:  # noqa: BLE001 - told to all who wait
            batch.error = error
        finally:
            if is_our_turn:
                self._turn.release()
            batch.finish()
