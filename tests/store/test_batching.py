"""What many threads look up at once is looked up together, and never before it was asked for."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from authsvc.store.batching import Batcher
from tests.servers import wait_for


class Lookup:
    """A slow lookup: it begins at once and ends when it is let go. Odd numbers have a value."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = threading.Event()
        self.error: Exception | None = None

    def __call__(self, keys: list[int]) -> dict[int, str]:
        """Wait, and answer."""
        self.asked.append(keys)
        self.gate.wait()
        if self.error:
            raise self.error
        return {key: f"value {key}" for key in keys if key % 2}


class Crowd:
    """Threads that ask one batcher."""

    def __init__(self, threads: ThreadPoolExecutor, patience: float = 30.0) -> None:
        self.lookup = Lookup()
        self.batcher = Batcher(self.lookup, patience)
        self._threads = threads

    def ask(self, key: int) -> "Future[str | None]":
        """One thread more that asks."""
        return self._threads.submit(self.batcher.get, key)

    def ask_in_order(self, *keys: int) -> "list[Future[str | None]]":
        """One thread more for each key. The first is being looked up, and the others wait, when this returns."""
        futures = []
        for number, key in enumerate(keys, 1):
            futures.append(self.ask(key))
            wait_for(lambda number=number: self.lookup.asked and self._arrived() == number)
        return futures

    def _arrived(self) -> int:
        return sum(map(len, self.lookup.asked)) + len(self.batcher._next[0])


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Those who ask."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def crowd(threads: ThreadPoolExecutor) -> Iterator[Crowd]:
    """Leaves nobody waiting."""
    crowd = Crowd(threads)
    yield crowd
    crowd.lookup.gate.set()


def test_who_comes_alone_asks_alone(crowd: Crowd) -> None:
    """Nobody waits for company."""
    crowd.lookup.gate.set()
    assert [crowd.batcher.get(1), crowd.batcher.get(3)] == ["value 1", "value 3"]
    assert crowd.lookup.asked == [[1], [3]]


def test_what_has_no_value_is_none(crowd: Crowd) -> None:
    """As a mapping's get() has it."""
    crowd.lookup.gate.set()
    assert crowd.batcher.get(2) is None


def test_those_who_come_meanwhile_share_the_next_lookup(crowd: Crowd) -> None:
    """However many they are; each gets its own value."""
    futures = crowd.ask_in_order(1, 3, 4, 5)
    crowd.lookup.gate.set()
    assert [future.result() for future in futures] == ["value 1", "value 3", None, "value 5"]
    assert crowd.lookup.asked == [[1], [3, 4, 5]]


def test_no_value_is_older_than_its_question(crowd: Crowd) -> None:
    """A key that is being looked up already is looked up again: it may have changed since."""
    futures = crowd.ask_in_order(1, 1)
    crowd.lookup.gate.set()
    assert [future.result() for future in futures] == ["value 1", "value 1"]
    assert crowd.lookup.asked == [[1], [1]]


def test_an_error_is_told_to_all_of_its_batch_and_to_nobody_else(crowd: Crowd) -> None:
    """A verdict that could not be found out is not made up."""
    futures = crowd.ask_in_order(1, 3, 5)
    crowd.lookup.error = ValueError("away")
    crowd.lookup.gate.set()
    for future in futures:
        with pytest.raises(ValueError, match="away"):
            future.result()
    crowd.lookup.error = None
    assert crowd.batcher.get(7) == "value 7"


def test_a_lookup_that_hangs_keeps_nobody_else_waiting(threads: ThreadPoolExecutor) -> None:
    """After a moment the next ones are looked up beside it, as often as it takes."""
    crowd = Crowd(threads, patience=0.1)
    gate = crowd.lookup.gate
    try:
        (hanging,) = crowd.ask_in_order(1)
        crowd.lookup.gate = threading.Event()
        crowd.lookup.gate.set()
        assert [crowd.batcher.get(3), crowd.batcher.get(5)] == ["value 3", "value 5"]
        assert not hanging.done()
    finally:
        gate.set()
    assert [hanging.result(), crowd.batcher.get(7)] == ["value 1", "value 7"]
    assert crowd.lookup.asked == [[1], [3], [5], [7]]
