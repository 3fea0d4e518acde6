"""The one thread per process that hashes, behind everything else in the machine's order of precedence.

A hash takes 19 MiB and 15 ms of a core. One at a time, a flood of logins costs 19 MiB; at the lowest priority it costs
session checks next to nothing; and waiting logins, unlike refused ones, do not come back at once.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from authsvc.errors import Busy

LONGEST_WAIT = 10.0
"""Seconds that a login waits for its turn, at the most."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_T = TypeVar("_T")


class HashThread:
    """Runs one piece of work at a time; whoever asks waits for the result, or is refused as Busy."""

    def __init__(self, places: int) -> None:
        """Let at most `places` wait: what serves them must have more threads, so that session checks find one."""
        self._executor = ThreadPoolExecutor(1, "hash", initializer=_settle_in)
        self._lock = threading.Lock()
        self._places = places
        self._waiting = 0
        self._seconds_each = 0.0

    def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`. Raises Busy where its turn would not come in time, and what `work` raises."""
        with self._lock:
            # Known at once is better than found out after ten seconds.
            if self._waiting >= self._places or self._waiting * self._seconds_each > LONGEST_WAIT:
                raise Busy
            self._waiting += 1
        try:
            future = self._executor.submit(self._timed, work)
            try:
                return future.result(LONGEST_WAIT)
            except TimeoutError:
                if not future.cancel():  # its turn has just come
                    return future.result()
                raise Busy from None
        finally:
            with self._lock:
                self._waiting -= 1

    def _timed(self, work: Callable[[], _T]) -> _T:
        started = time.perf_counter()
        try:
            return work()
        finally:
            # A moving average: how long the queue takes depends on what else the machine does.
            self._seconds_each += (time.perf_counter() - started - self._seconds_each) / 8


def _settle_in() -> None:
    """Yield to everybody else; and let the next hash have the memory of the last, which saves its page faults."""
    if sys.platform == "linux":  # elsewhere the "process" that a priority is set for is no thread
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        with suppress(OSError, AttributeError):  # only glibc gives memory back so soon
            allocator = ctypes.CDLL(None)
            allocator.mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)
            allocator.mallopt(_M_TRIM_THRESHOLD, 128 * 1024 * 1024)
