"""Python reads this at its start where PYTHONPATH names this directory: password hashes then cost next to nothing.

So `python wsgi.py` logs in ten times as often, and calls meet ten times as often.
"""

import argon2

_cheapest = argon2.profiles.CHEAPEST


class CheapHasher(argon2.PasswordHasher):
    """Whatever it is told, its hashes are cheap."""

    def __init__(self, **_: int) -> None:
        # Two passes: the tests' own administrator makes hashes of one, so the first login of an account renews its.
        super().__init__(2, _cheapest.memory_cost, _cheapest.parallelism, _cheapest.hash_len, _cheapest.salt_len)


argon2.PasswordHasher = CheapHasher  # type: ignore[misc,assignment]
