"""The counters' rules. What comes of them is in test_guessing.py."""

import pytest

from authsvc.identifiers import Key
from authsvc.throttle import Counter, Counters, Limit, Limits, by_key, known_account, network

LIMITS = Limits(account_address=Limit(1, 10), address=Limit(2, 20), account=Limit(3, 30), otp=Limit(4, 40), otp_row=100)
NAME = Key("name", "user")


def counters(
    *, key: Key = NAME, account_id: int | None = 2, known_address: bool = False, recovery: bool = False
) -> Counters:
    """Those of one try."""
    return Counters(
        limits=LIMITS,
        key=key,
        account_id=account_id,
        network="192.0.2.1",
        known_address=known_address,
        recovery=recovery,
    )


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("unknown", "unknown"),
    ],
)
def test_clients_are_counted_by_their_network(address: str, counted_as: str) -> None:
    """An IPv4 client by its address, an IPv6 client by its /64, and all without an address together."""
    assert network(address) == counted_as


def test_a_wrong_code_charges_what_a_wrong_password_does_and_one_more() -> None:
    """The counter of wrong codes is the only one of which a wrong password knows nothing."""
    (extra,) = set(counters().for_code()) - set(counters().for_password())
    assert (extra.scope, extra.account, extra.address, extra.limit) == ("otp", "id:2", "", LIMITS.otp)


def test_each_counter_has_its_limit() -> None:
    """The setting named after a kind of counter is the limit of that kind."""
    assert {counter.scope: counter.limit for counter in counters().for_code()} == {
        "account_address": LIMITS.account_address,
        "address": LIMITS.address,
        "account": LIMITS.account,
        "otp": LIMITS.otp,
    }


def test_counters_are_locked_in_one_order() -> None:
    """Whatever charges several takes them sorted by their key, so that two never wait for each other."""
    for several in (counters().for_password(), counters().for_code()):
        assert several == sorted(several, key=lambda counter: (counter.account, counter.address, counter.scope))


@pytest.mark.parametrize(
    ("known_address", "recovery", "exempt"),
    [(False, False, []), (False, True, []), (True, False, ["account"]), (True, True, ["account", "otp"])],
)
def test_a_known_address_is_exempt_from_one_counter(known_address: bool, recovery: bool, exempt: list[str]) -> None:
    """The account's own counter makes an exception for an address that the account is known at; the one of codes does
    for a recovery code from there.
    """
    several = counters(known_address=known_address, recovery=recovery).for_code()
    assert [counter.scope for counter in several if not counter.enforced] == exempt


def test_the_counter_of_an_address_goes_by_the_key_as_given() -> None:
    """The daily ones are the account's, by whichever of its keys it was tried."""
    by_its_name, by_its_id = counters(), counters(key=Key("id", 2))
    assert by_its_name.pair() != by_its_id.pair()
    assert by_its_name.account == by_its_id.account == known_account(2)


@pytest.mark.parametrize(("seconds", "full"), [(0, False), (0.1, True), (10, True), (70, True), (70.1, False)])
def test_a_full_counter_refuses_until_its_window_ends(seconds: float, full: bool) -> None:
    """One that ends later than any can, with clocks a minute apart, counts no more."""
    now = 1000.0
    assert Counter("", "192.0.2.1", "address", Limit(5, 10)).is_full(5, now + seconds, now) is full


def test_replicas_of_two_releases_share_their_counters() -> None:
    """What a counter is stored under stays as it is: an update gives nobody new guesses."""
    assert by_key(NAME) == "key:f3eca01f1016e3288f262b2445629750a55191031335f31cf544d3bf25231dd8"
    assert known_account(2) == "id:2"


def test_nobody_shares_a_counter_with_somebody_else() -> None:
    """Accounts, and ids, names and phones that are spelt alike, count apart."""
    keys = [Key("id", 2), Key("id", 3), Key("name", "2"), Key("name", "id:2"), Key("phone", "2")]
    assert len({known_account(2), known_account(22), *map(by_key, keys)}) == 7
    assert counters(account_id=None).account == by_key(NAME)
