"""The judge: it looks for an order of the calls, true to their times, in which each answer is what the model gives.

That is linearizability (Herlihy and Wing 1990). The search is that of Wing and Gong ("Testing and Verifying Concurrent
Objects", 1993) with the memory of Lowe ("Testing for linearizability", 2017): no set of calls is tried twice that leads
to the same state.
"""

import math
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

NEVER = math.inf
"""When a call ended that got no answer: it may have taken effect at any time since it began, or never."""
MOST = 100_000
"""How many states are looked at before the judge gives up."""
_MOST_TO_TELL = 300

Act = tuple[Hashable, ...]
"""What is asked: a verb and its details."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asked of one object. Times are seconds of the one clock of all clients."""

    number: int
    """Its own in its history; also what the session is called that it opened."""
    act: Act
    begin: float
    end: float = NEVER
    answer: object = None
    client: int = 0

    @property
    def word(self) -> object:
        """The answer without its numbers."""
        return self.answer[0] if isinstance(self.answer, tuple) else self.answer

    @property
    def unanswered(self) -> Self:
        """The same, had no answer come. Whatever explains a history still explains it with this in its place."""
        return replace(self, end=NEVER, answer=None)


class Model(Protocol):
    """One state of an object, as it would be if its calls came one after the other."""

    changes: ClassVar[frozenset[object]]
    """The words that may tell of a change; with any other answer a call has changed nothing."""

    def apply(self, call: Call) -> tuple[object, Self]:
        """What the call is to be answered, and the state after it."""


def is_lawful(calls: Sequence[Call], start: Model, most: int = MOST) -> bool | None:
    """Whether an order explains all answers; None where `most` states did not settle it."""
    calls = sorted(calls, key=lambda call: call.begin)
    answered = sum(1 << at for at, call in enumerate(calls) if call.end < NEVER)
    to_try, tried = [(0, start)], set[tuple[int, Model]]()
    while to_try:
        done, state = to_try.pop()
        done = _look(calls, done, state)
        if done & answered == answered:
            return True
        if (done, state) in tried:
            continue
        if len(tried) == most:
            return None
        tried.add((done, state))
        # Last in, first out: calls without an answer are a last resort.
        steps = sorted(_possible(calls, done, state), key=lambda step: calls[step[0]].end, reverse=True)
        to_try += [(done | 1 << at, after) for at, after in steps]
    return False


def _look(calls: Sequence[Call], done: int, state: Model) -> int:
    """Put next whatever has only looked, and saw this state: to put it later could only be harder."""
    before = None
    while before != done:
        before = done
        for at, _ in _possible(calls, done, state):
            if calls[at].answer is not None and calls[at].word not in state.changes:
                done |= 1 << at
    return done


def _possible(calls: Sequence[Call], done: int, state: Model) -> Iterator[tuple[int, Model]]:
    """Calls that may come next, each with the state after it: none of the others had ended before it began."""
    left = [at for at in range(len(calls)) if not done >> at & 1]
    horizon = min((calls[at].end for at in left), default=NEVER)
    unanswered = set()
    for at in left:
        call = calls[at]
        if call.begin > horizon:
            return
        if call.end == NEVER:
            # Of several that asked the same, the first will do: it may come whenever the others may, and nobody can
            # ask for what any of them opened.
            if call.act in unanswered:
                continue
            unanswered.add(call.act)
        answer, after = state.apply(call)
        if call.answer == answer or (call.end == NEVER and after != state):
            yield at, after


def contradiction(calls: Sequence[Call], start: Model) -> list[Call]:
    """Of an unlawful history, few calls that cannot all have been answered so, whatever the others changed."""
    ends = sorted(call.end for call in calls if call.end < NEVER)

    def until(end: float) -> list[Call]:
        return [call if call.end <= end else call.unanswered for call in calls if call.begin <= end]

    first = bisect_left(ends, True, key=lambda end: is_lawful(until(end), start) is False)
    found = until(ends[min(first, len(ends) - 1)])
    for call in sorted(found, key=lambda call: call.begin, reverse=True):
        others = [each for each in found if each is not call]
        # Who has only looked need not have been there; what was changed may have been changed or not.
        looked = call.answer is not None and call.word not in start.changes
        relaxed = others if looked else [*others, call.unanswered]
        if is_lawful(relaxed, start, _MOST_TO_TELL) is False:
            found = relaxed
    return sorted((call for call in found if call.end < NEVER), key=lambda call: call.begin)


def told(calls: Sequence[Call]) -> str:
    """The calls, a line each, with the seconds since the first."""
    zero = min(call.begin for call in calls)
    return "\n".join(
        f"  {call.begin - zero:8.4f} - {call.end - zero:8.4f}  #{call.number:<3} client {call.client:<2} "
        f"{' '.join(map(str, call.act))} -> {call.answer}"
        for call in calls
    )
