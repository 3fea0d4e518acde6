"""The way in: `wsgi:app` for any WSGI server, `python wsgi.py` to check, migrate, bootstrap and serve."""

import io
import signal
import sys

if __name__ == "__main__":
    # Until Granian listens for them there is nothing under way. A container's first process would else ignore SIGTERM.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: sys.exit(0))
    if sys.stdout:
        # Unbuffered: a log line that cannot be written is lost. In a buffer it would come up again, as an error, where
        # the next worker is forked.
        sys.stdout = io.TextIOWrapper(io.FileIO(sys.stdout.fileno(), "w", closefd=False), "utf-8", write_through=True)

from authsvc import create_app, logs
from authsvc.config import ConfigError, load

try:
    settings = load(make_key=__name__ == "__main__")
except ConfigError as error:
    for problem in error.problems:
        print(problem, file=sys.stderr)
    raise SystemExit(2) from None

logs.configure(settings.log_level, sys.stdout)
app = create_app(settings)

if __name__ == "__main__":
    from authsvc.server import serve

    serve(app)
