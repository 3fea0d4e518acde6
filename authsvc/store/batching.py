"""What many threads look up at once, looked up together.

A round trip to a database server costs both sides more than the row that it brings. So whatever is wanted while one is
under way shares the next. Nobody waits for company: who comes alone asks alone, at once.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Batcher(Generic[_K, _V]):
    """Looks up one batch of keys at a time, or beside one that hangs. No value is ever kept for a later call."""

    def __init__(self, look_up: Callable[[list[_K]], Mapping[_K, _V]], patience: float) -> None:
        """Use `look_up`, which must come to an end; wait up to `patience` seconds for the batch before one's own."""
        self._look_up = look_up
        self._patience = patience
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next: tuple[list[_K], Future[Mapping[_K, _V]]] = [], Future()

    def get(self, key: _K) -> _V | None:
        """The value of `key`, looked up after this call began; None where it has none. Raises what the lookup does."""
        with self._lock:
            keys, found = self._next
            keys.append(key)
            is_first = len(keys) == 1
        if is_first:
            self._look_up_all(keys, found)
        return found.result().get(key)

    def _look_up_all(self, keys: list[_K], found: Future[Mapping[_K, _V]]) -> None:
        is_our_turn = self._turn.acquire(timeout=self._patience)
        # Before it is looked up: who comes later must not be told what was true before, such as a session's being live.
        with self._lock:
            self._next = [], Future()
        try:
            found.set_result(self._look_up(keys))
        except BaseException as error:  # noqa: BLE001 - told by result(), to all who wait
            found.set_exception(error)
        finally:
            if is_our_turn:
                self._turn.release()
