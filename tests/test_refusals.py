"""What a refusal says, to the letter."""

import pytest

from authsvc import errors
from authsvc.web import acc_admin, api_auth
from tests.refusals import PROMISED, told


@pytest.mark.parametrize("kind", PROMISED)
def test_each_refusal_says_what_is_promised(kind: type[Exception]) -> None:
    """In both dialects. Whoever changes a message changes it in `tests/refusals.py`, too."""
    assert told(kind) == PROMISED[kind]


def test_no_refusal_says_what_is_not_promised() -> None:
    """Each row of the dialects' tables is held to its words; the console does not tell one bad token from another."""
    assert {*api_auth.REFUSALS, *acc_admin.REFUSALS} - PROMISED.keys() == {errors.TokenRefused}
