"""The one thread that hashes: one piece of work at a time, behind everything else, for nobody too late."""

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from authsvc import hash_thread
from authsvc.errors import Busy
from authsvc.hash_thread import LONGEST_WAIT, HashThread
from tests.conftest import Clock
from tests.servers import wait_for


class Occupied:
    """A hash thread that is at work until it is let go."""

    def __init__(self, thread: HashThread, callers: ThreadPoolExecutor) -> None:
        self._thread, self._callers = thread, callers
        self._release = threading.Event()
        started = threading.Event()

        def work() -> None:
            started.set()
            self._release.wait()

        self.first = callers.submit(thread.run, work)
        started.wait()

    def wait_in_line(self, work: Callable[[], Any]) -> "Future[Any]":
        """Somebody more who waits."""
        line = self._thread._executor._work_queue
        before = line.qsize()
        future = self._callers.submit(self._thread.run, work)
        wait_for(lambda: line.qsize() > before or future.done())
        return future

    def let_go(self) -> None:
        """Let it finish what it is doing."""
        self._release.set()


@pytest.fixture
def occupy() -> Iterator[Callable[[HashThread], Occupied]]:
    """Gives a hash thread something to do."""
    occupied = []
    with ThreadPoolExecutor(8) as callers:

        def occupy(thread: HashThread) -> Occupied:
            occupied.append(Occupied(thread, callers))
            return occupied[-1]

        yield occupy
        for each in occupied:
            each.let_go()


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the hash thread measures its work with."""
    clock = Clock(0)
    monkeypatch.setattr(hash_thread, "time", SimpleNamespace(perf_counter=clock))
    return clock


def test_one_at_a_time_in_turn(occupy: Callable[[HashThread], Occupied]) -> None:
    """While one is at work nobody else is; then the others follow in the order in which they came."""
    thread, done = HashThread(8), list[int]()
    occupied = occupy(thread)
    waiting = [occupied.wait_in_line(partial(done.append, number)) for number in range(5)]
    assert done == []
    occupied.let_go()
    for future in waiting:
        future.result()
    assert done == [0, 1, 2, 3, 4]


def test_it_yields_to_everybody() -> None:
    """Its priority is the lowest there is, and nobody else's changes."""

    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    assert HashThread(1).run(priority) == 19
    assert priority() == before


def test_what_yields_does_so_soon() -> None:
    """It asks Linux for the shortest slice, where slices can be asked for; nobody else's changes."""

    def slice_() -> int:
        sched_getattr = hash_thread._SCHED_SETATTR.get(platform.machine(), -2) + 1
        attributes = ctypes.create_string_buffer(48)  # zeroes, as long as nobody fills them in
        asked = [ctypes.c_long(sched_getattr), ctypes.c_long(0), attributes, ctypes.c_long(48), ctypes.c_long(0)]
        ctypes.CDLL(None).syscall(*asked)
        return int(struct.unpack("=IIQiIQQQ", attributes)[5])

    before = slice_()  # 0 where there is no asking
    assert HashThread(1).run(slice_) == min(before, 100_000)
    assert slice_() == before


def test_a_machine_that_refuses_a_priority_hashes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread's priority cannot be set, the work is done at the usual one."""

    def refuse(*_: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert HashThread(1).run(lambda: "done") == "done"


@pytest.mark.parametrize("error", [KeyError, TimeoutError, Busy])
def test_an_error_of_the_work_reaches_who_asked(error: type[Exception]) -> None:
    """Work that fails fails for its caller, and the next piece is done."""
    thread = HashThread(1)

    def fail() -> None:
        raise error

    with pytest.raises(error):
        thread.run(fail)
    assert thread.run(lambda: "next") == "next"


def test_no_place_no_waiting(occupy: Callable[[HashThread], Occupied]) -> None:
    """Who finds every place taken is refused at once, and the places that are left again can be taken again."""
    thread = HashThread(2)
    occupied = occupy(thread)
    second = occupied.wait_in_line(lambda: "second")
    with pytest.raises(Busy):
        thread.run(lambda: "third")
    occupied.let_go()
    assert second.result() == "second"
    occupied.first.result()
    assert thread.run(lambda: "fourth") == "fourth"


@pytest.mark.parametrize(("seconds_each", "refused"), [(LONGEST_WAIT / 2, False), (LONGEST_WAIT / 2 + 0.01, True)])
def test_who_would_wait_too_long_is_refused_at_once(
    occupy: Callable[[HashThread], Occupied], stopwatch: Clock, seconds_each: float, refused: bool
) -> None:
    """With two in line, the third waits for ten seconds of work but not for more; how long each takes is measured."""
    thread = HashThread(8)
    for _ in range(100):  # until the moving average has arrived
        thread.run(lambda: stopwatch.advance(seconds_each))
    occupied = occupy(thread)
    occupied.wait_in_line(lambda: None)
    third = occupied.wait_in_line(lambda: "done")
    occupied.let_go()
    assert isinstance(third.exception(), Busy) == refused


def test_one_slow_spell_does_not_close_the_door(stopwatch: Clock) -> None:
    """However long the last one took, who finds nobody waiting is let in."""
    thread = HashThread(8)
    thread.run(lambda: stopwatch.advance(3600))
    assert thread.run(lambda: "done") == "done"


def test_nobody_waits_for_ever(occupy: Callable[[HashThread], Occupied], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose turn has not come in time is refused, its work is never done, and its place is free again."""
    thread, done = HashThread(2), list[str]()
    occupied = occupy(thread)
    monkeypatch.setattr(hash_thread, "LONGEST_WAIT", 0.0)
    with pytest.raises(Busy):
        thread.run(lambda: done.append("late"))
    monkeypatch.undo()
    next_one = occupied.wait_in_line(lambda: done.append("next"))
    occupied.let_go()
    next_one.result()
    assert done == ["next"]


def test_whose_turn_has_just_come_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that has begun when the wait is over is finished, and its result is given."""
    thread = HashThread(1)

    class JustBegun(Future[str]):
        def cancel(self) -> bool:
            self.set_result("done")
            return False

    monkeypatch.setattr(hash_thread, "LONGEST_WAIT", 0.0)
    monkeypatch.setattr(thread, "_executor", SimpleNamespace(submit=lambda *_: JustBegun()))
    assert thread.run(lambda: "never run") == "done"
