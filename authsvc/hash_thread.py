"""The one thread per process that hashes, at the lowest scheduling priority.

A hash takes 19 MiB and 15 ms of a core. One at a time, a flood of logins costs 19 MiB; at the lowest priority it costs
session checks next to nothing; and waiting logins, unlike refused ones, do not come back at once.
"""

import ctypes
import os
import platform
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from authsvc.errors import Busy
from authsvc.metrics import Metrics

LONGEST_WAIT = 10.0
"""Seconds that a login waits for its turn, at the most."""

_LOWEST = 19
_SLICE = 100_000  # nanoseconds: the shortest there is
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # Linux's numbers of this system call; glibc names it since 2.41 only
_T = TypeVar("_T")


class HashThread:
    """Runs one piece of work at a time; whoever asks waits for the result, or is refused as Busy."""

    def __init__(self, max_waiting: int, metrics: Metrics | None = None) -> None:
        """Let at most `max_waiting` wait: what serves them must have more threads, so that session checks find one."""
        self._executor = ThreadPoolExecutor(1, "hash", initializer=_yield_to_others)
        self._lock = threading.Lock()
        self._max_waiting = max_waiting
        self._metrics = metrics or Metrics()
        self._waiting = 0
        self._seconds_each = 0.0

    def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`. Raises Busy where its turn would not come in time, and what `work` raises."""
        with self._lock:
            # Known at once is better than found out after ten seconds.
            if self._waiting >= self._max_waiting or self._waiting * self._seconds_each > LONGEST_WAIT:
                raise Busy
            self._waiting += 1
            self._metrics.waiting(self._waiting)
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
                self._metrics.waiting(self._waiting)

    def _timed(self, work: Callable[[], _T]) -> _T:
        started = time.perf_counter()
        try:
            return work()
        finally:
            seconds = time.perf_counter() - started
            # A moving average: how long the queue takes depends on what else the machine does.
            self._seconds_each += (seconds - self._seconds_each) / 8
            self._metrics.hashed(seconds)


def _yield_to_others() -> None:
    """Lower this thread's priority as far as it goes."""
    if sys.platform != "linux":  # elsewhere the "process" that a priority is set for is no thread
        return
    with suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
    # Even at nice 19 a thread keeps its time slice; Linux 6.12 and later lets us ask for a shorter one.
    if number := _SCHED_SETATTR.get(platform.machine()):
        # struct sched_attr: size, policy, flags, nice, priority, runtime (the slice), deadline, period
        attributes = struct.pack("=IIQiIQQQ", 48, os.sched_getscheduler(0), 0, _LOWEST, 0, _SLICE, 0, 0)
        with suppress(OSError, AttributeError):  # a C library may lack it
            ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(0), attributes, ctypes.c_long(0))
