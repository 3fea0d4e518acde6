"""What processes cost, read from /proc."""

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.1
_PROC = Path("/proc")


def tree(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(folder.name))[1]), []).append(int(folder.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def cpu_seconds(root: int, *, ended_too: bool = False) -> float:
    """User and system time that a tree of processes has taken; `ended_too` adds those that it has waited for."""
    ticks = 0
    for process in tree(root):
        with suppress(OSError):
            ticks += sum(map(int, _stat(process)[11 : 15 if ended_too else 13]))
    return ticks / _TICKS_A_SECOND


def machine_cpu_seconds() -> float:
    """What all processes of this machine, and its hypervisor's other guests in their place, have taken."""
    user, nice, system, _idle, _iowait, *others = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, (user, nice, system, *others))) / _TICKS_A_SECOND


def memory_mib(root: int) -> float:
    """The PSS of a tree of processes."""
    kib = 0
    for process in tree(root):
        with suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", (_PROC / str(process) / "smaps_rollup").read_text(), re.MULTILINE)
            kib += int(found[1]) if found else 0
    return kib / 1024


def held(root: int) -> tuple[float, int, int]:
    """What a tree of processes holds: its memory as `memory_mib`, open files, threads."""
    folders = [_PROC / str(process) for process in tree(root)]
    files, threads = (sum(len([*(folder / name).iterdir()]) for folder in folders) for name in ("fd", "task"))
    return memory_mib(root), files, threads


@contextmanager
def peak_memory(root: int) -> Iterator[list[float]]:
    """Samples of `memory_mib` while the block runs; the list grows meanwhile."""
    samples, over = [memory_mib(root)], threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            samples.append(memory_mib(root))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


class Neighbours:
    """How much of the cores others took, from now on."""

    def __init__(self) -> None:
        self._started, self._ours, self._all = time.monotonic(), self._taken(), machine_cpu_seconds()

    def share(self) -> float:
        """Between 0 and 1; of all cores that the machine has."""
        seconds = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        return max(0.0, (machine_cpu_seconds() - self._all - (self._taken() - self._ours)) / seconds)

    @staticmethod
    def _taken() -> float:
        return cpu_seconds(os.getpid(), ended_too=True)


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the program's name, which may hold anything: state, parent, and so on."""
    return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
