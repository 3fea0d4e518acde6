"""Log lines, one JSON object each.

What is logged is named field by field. Nothing here takes a request, a form or a header, so that no password,
code, token, key or query string can slip in.
"""

import json
import logging
import time
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from authsvc.events import Event, acting

_PACKAGE = __name__.partition(".")[0]
_encode = json.JSONEncoder(default=str).encode
_logger = logging.getLogger("authsvc")
_audit = logging.getLogger("authsvc.audit")
_LINE_MAX, _VALUE_MAX = 8192, 100  # characters
_PATH_MAX, _METHOD_MAX = 500, 32  # characters
_handler: logging.StreamHandler[TextIO] = logging.StreamHandler()
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


@dataclass(frozen=True, slots=True)
class RiskyButLegal:
    """Something legal that is risky: a stable id to search for, what is risky, and what to do about it."""

    id: str
    text: str
    hint: str


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields |= {"cause": cause} if (cause := getattr(record.exc_info[1], "cause", None)) else {}
            fields["error"] = _without_values(record.exc_info[1])
        return _line(record.created, record.levelname, record.getMessage(), fields)


def _line(at: float, level: str, event: str, fields: Mapping[str, object]) -> str:
    """One line. JSON escapes line breaks, so nobody's input can forge a line."""
    time_of_day = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    line: dict[str, Any] = {"time": time_of_day, "level": level, "event": event}
    if request_id := _request_id.get():
        line |= {"request_id": request_id, "address": acting.get().address}
    line |= fields
    text = _encode(line)
    if len(text) > _LINE_MAX:  # as long as somebody's input makes it
        text = _encode({name: str(value)[:_VALUE_MAX] for name, value in line.items()})
    return text


def _without_values(error: BaseException | None) -> list[str]:
    """Of which types an error and its causes are, and where they were raised: no messages, which may quote values."""
    lines = []
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if _PACKAGE in frame.filename]
        lines.append(type(error).__qualname__)
        lines += dict.fromkeys(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in [*ours, *frames[-1:]])
        error = error.__cause__ or error.__context__
    return lines


def configure(level: str, stream: TextIO) -> None:
    """Send this process's log records to `stream`: ours from `level` up, the libraries' from WARNING up."""
    _handler.setStream(stream)
    _handler.setFormatter(_JsonLines())
    # Below WARNING libraries tell what they handle: SQLAlchemy, for one, each statement with its values.
    logging.basicConfig(level=logging.WARNING, handlers=[_handler], force=True)
    _logger.setLevel(level)
    # Whatever else is left out (OWASP ASVS 5.0.0, 16.3).
    _audit.setLevel(logging.INFO)
    # What no line of ours shows need not be found out (Python's logging documentation, "Optimization").
    logging._srcfile = None  # noqa: SLF001
    # A line that cannot be written is lost, rather than shown with its values on standard error.
    logging.raiseExceptions = False
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def bind(request_id: str | None) -> None:
    """From now on, lines of this thread belong to this request."""
    _request_id.set(request_id)


def audit(event: Event, account_id: int | None = None, **fields: object) -> None:
    """Something happened to an account or a role. What a transaction did is told after its commit, by the store."""
    level = logging.WARNING if event.is_refusal else logging.INFO
    _event(level, event, _audit, account_id=account_id, **fields)


def damaged(what: str, account_id: int) -> None:
    """Something stored with an account cannot be read; the login was refused."""
    _event(logging.ERROR, "account.damaged", what=what, account_id=account_id)


def unknown_key(sessions: int, seeds: int) -> None:
    """Sessions or two-step seeds are there that no key of ours fits: it was lost, or this is another one."""
    _event(logging.ERROR, "key.unknown", sessions=sessions, seeds=seeds)


def clock_suspected(account_id: int, seconds: int) -> None:
    """A one-time code is wrong now and would be right so many seconds away: somebody's clock is off."""
    _event(logging.WARNING, "otp.clock_suspected", account_id=account_id, seconds_off=seconds)


def request_ended(method: str, path: str, status: int, milliseconds: float, cause: str | None) -> None:
    """The access line. `path` comes without its query string.

    It does not go through `logging`: a record, and a lock that all threads wait for, cost a session check more than its
    signature and its row.
    """
    if not _logger.isEnabledFor(logging.INFO):
        return
    fields = {"method": method[:_METHOD_MAX], "path": path[:_PATH_MAX], "status": status, "ms": milliseconds}
    text = _line(time.time(), "INFO", "request", fields if cause is None else {**fields, "cause": cause})
    try:
        # In one piece, so that lines of threads and workers do not mix.
        _handler.stream.write(f"{text}\n")
        _handler.stream.flush()
    except Exception:  # noqa: BLE001, S110 - see `raiseExceptions` above
        pass


def failed(event: str) -> None:
    """Something broke; call it while the exception is being handled."""
    _logger.error(event, exc_info=True)  # noqa: LOG014


def notice(event: str, **fields: object) -> None:
    """What the service does with itself: starting, migrating, stopping."""
    _event(logging.INFO, event, **fields)


def risk(risk: RiskyButLegal) -> None:
    """Something legal is risky."""
    _event(logging.WARNING, "setting.risky", id=risk.id, risk=risk.text, hint=risk.hint)


def _event(level: int, event: str, logger: logging.Logger = _logger, /, **fields: object) -> None:
    if logger.isEnabledFor(level):
        known = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, event, extra={"fields": known})
