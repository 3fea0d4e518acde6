"""`/metrics`: what all workers of this replica have counted, in the text format of Prometheus (version 0.0.4)."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from authsvc.metrics import BOUNDS, DATABASE, DATABASE_ERRORS, HASHES, LOGINS, NUMBERS, REQUESTS, WAITING, SharedMetrics
from authsvc.parts import parts

blueprint = Blueprint("metrics", __name__)

_BUILD = "authsvc_build_info"
_METRICS = {
    REQUESTS: ("histogram", "Requests.", ("http_request_method", "http_route", "http_response_status_code")),
    LOGINS: ("counter", "Logins that succeeded, or the causes of the refused ones.", ("outcome",)),
    HASHES: ("histogram", "Passwords hashed or matched, without the wait before it.", ()),
    WAITING: ("gauge", "Logins that wait for their hash, and those whose turn it is.", ()),
    DATABASE: ("histogram", "The database's work, with the wait for a connection or a turn.", ("operation",)),
    DATABASE_ERRORS: ("counter", "What the database did not do.", ()),
    _BUILD: ("gauge", "Always 1.", ("version",)),
}
"""Type, help and labels of each."""


@blueprint.route("/metrics", methods=["GET", "HEAD"])
def metrics() -> Response:
    """Over all workers, whichever answers."""
    counted = parts().metrics
    if not isinstance(counted, SharedMetrics):
        raise NotFound
    totals = counted.totals() | {(_BUILD, parts().version): [1]}
    text = "".join(f"{line}\n" for line in _lines(totals))
    return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _lines(totals: Mapping[tuple[str, ...], Sequence[float]]) -> Iterator[str]:
    for name, (kind, text, labels) in _METRICS.items():
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        found = {key[1:]: numbers for key, numbers in totals.items() if key[0] == name}
        if not found and not labels:
            # From the beginning: the first error would else be no change of anything.
            found = {(): [0.0] * NUMBERS}
        for values, numbers in found.items():
            named = list(zip(labels, values, strict=True))
            if kind != "histogram":
                yield _sample(name, named, numbers[0])
                continue
            *buckets, total = numbers
            counts = list(accumulate(buckets))
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
                yield _sample(f"{name}_bucket", [*named, ("le", bound)], count)
            yield _sample(f"{name}_count", named, counts[-1])
            yield _sample(f"{name}_sum", named, total)


def _sample(name: str, labels: Sequence[tuple[str, str]], value: float) -> str:
    # All values of labels are words of ours: nothing in them is to be escaped.
    named = ",".join(f'{label}="{word}"' for label, word in labels)
    return f"{name}{{{named}}} {value}" if named else f"{name} {value}"
