"""How long the store waits, for what. Seconds.

A request is answered within 5 seconds, whatever the database does. It waits for a connection, for one to be made, and
for a statement; the first failure is tried once more, but only where it came quickly.
"""

POOL = 2.0
"""For a connection that others give back."""

CONNECT = 2
"""For PostgreSQL to accept a connection."""

STATEMENT = 2.0
"""For PostgreSQL to run a statement; it then cancels it."""

LOCK = 1.5
"""For a row that another transaction holds."""

ANSWER = 2.2
"""For anything from PostgreSQL. A server that is gone or frozen cannot cancel, so this is longer than STATEMENT."""

IDLE_IN_TRANSACTION = 10.0
"""Until PostgreSQL ends a transaction whose client is gone."""

WRITER = 3.0
"""For SQLite's one writer at a time."""

QUICK = 1.0
"""A failure that came within this is tried once more on a fresh connection."""

TURN = 0.01
"""For the session checks before one's own; some ten times what these take."""

# The worst there is: a quick failure, then a server that accepts a connection and freezes. Only one that is also slow
# to accept it can take longer.
assert max(WRITER + QUICK, POOL + ANSWER, QUICK + CONNECT + TURN, QUICK + ANSWER + TURN) < 5  # noqa: PLR2004
