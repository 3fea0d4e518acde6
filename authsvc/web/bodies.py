"""Request bodies: read whole, and only so many at once; whatever was cut off in transit never counts."""

import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.types import WSGIEnvironment

from flask import request
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge

from authsvc.errors import Busy, Refusal
from authsvc.throttle import network
from authsvc.web.request import carries_body, client_address

BODY_MAX = 16 * 1024
"""Bytes in a request body."""


class IncompleteBody(Refusal):
    """Less of the request body arrived than was announced."""

    cause = "incomplete_body"


class Bodies:
    """Reads the body of every request, also where nobody wants it.

    Who sends one slowly, or never to its end, holds a thread meanwhile: the server cannot give up reading. So there are
    places, of which one network gets half at the most, and session checks need none.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._each = max(1, places // 2)
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Read the body of this request. Raises Busy, IncompleteBody, and what HTTP has for lengths."""
        environ = request.environ
        if not carries_body(environ):
            return
        announced = request.content_length  # None with chunks, 0 for what is no number
        length = BODY_MAX + 1 if announced is None else announced
        if announced is not None and length > BODY_MAX:
            raise RequestEntityTooLarge
        with self._place(environ):
            body = environ["wsgi.input"].read(length)
        if len(body) > BODY_MAX:
            raise RequestEntityTooLarge
        if announced is not None and len(body) < length:
            raise IncompleteBody
        # Chunked: nobody says whether the last chunk arrived. Only a JSON object proves its own end.
        if body and announced is None and request.mimetype != "application/json":
            raise LengthRequired
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))

    @contextmanager
    def _place(self, environ: WSGIEnvironment) -> Iterator[None]:
        origin = network(client_address(environ))
        with self._lock:
            if not self._free or self._taken[origin] >= self._each:
                raise Busy
            self._free -= 1
            self._taken[origin] += 1
        try:
            yield
        finally:
            with self._lock:
                self._free += 1
                self._taken[origin] -= 1
                if not self._taken[origin]:
                    del self._taken[origin]
