"""When a session is over, and who opened it."""

import pytest

from authsvc.sessions import Client, Session, SessionLimits

OPENED = 1000.0


def session(last_seen_at: float = OPENED) -> Session:
    """A session of 10,000 seconds."""
    return Session(b"", OPENED, last_seen_at, OPENED + 10_000, "127.0.0.1", "")


@pytest.mark.parametrize(
    ("idle_timeout", "last_seen", "now", "over"),
    [
        (600, 0, 0, False),
        (600, 0, 599.9, False),
        (600, 0, 600, True),
        (600, 500, 1099, False),
        (600, 500, 1100, True),
        (600, 9_999, 9_999.9, False),
        (600, 9_999, 10_000, True),
        (0, 0, 9_999, False),
        (0, 0, 10_000, True),
    ],
)
def test_a_session_ends_by_age_and_idleness(idle_timeout: float, last_seen: float, now: float, over: bool) -> None:
    """It is over at its absolute end and when idle for the limit, if there is one; not a moment earlier."""
    limits = SessionLimits(10_000, idle_timeout)
    assert limits.refuses(session(OPENED + last_seen), OPENED + now) is over


@pytest.mark.parametrize(
    ("idle_timeout", "now", "due"),
    [
        (3600, 59.9, False),
        (3600, 60, True),
        (100, 24.9, False),
        (100, 25, True),
        (0, 59.9, False),
        (0, 60, True),
        (3600, -59.9, False),
        (3600, -60, True),
    ],
)
def test_last_seen_is_due_once_a_minute(idle_timeout: float, now: float, due: bool) -> None:
    """Or once in a quarter of the idle limit where that is shorter; and when the clock was set back."""
    assert SessionLimits(10_000, idle_timeout).wants_touch(session(), OPENED + now) is due


@pytest.mark.parametrize(
    ("sent", "kept"), [("curl/8", "curl/8"), ("a\x1b[31mb\u202e", "a?[31mb?"), ("x" * 300, "x" * 256), ("Zoë", "Zoë")]
)
def test_a_user_agent_is_safe_to_show(sent: str, kept: str) -> None:
    """What a client says of itself is cut to size and cannot command an administrator's terminal."""
    assert Client.of("127.0.0.1", sent).user_agent == kept
