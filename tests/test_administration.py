"""The administrator's verbs, where the command line adds nothing but words."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from werkzeug.security import generate_password_hash

from authsvc import create_app, errors
from authsvc.accounts import Guesses
from authsvc.administration import Administration
from authsvc.config import load
from authsvc.identifiers import Key, parse_key
from authsvc.parts import parts
from authsvc.store.repository import Repository
from authsvc.store.schema import upgrade
from tests.conftest import Clock, Log, MakeApp
from tests.databases import PASSWORD, PHONE, SECRET_KEY, Databases, close
from tests.dialects import Auth, Console, in_process
from tests.servers import wait_for
from tests.test_two_step import WAITING

Query = Callable[..., list[Any]]

USER = parse_key("user")
TOO_MUCH = 2**63


@pytest.fixture
def administration(app: Flask) -> Administration:
    """The verbs."""
    return parts(app).administration


@pytest.fixture
def empty(make_app: MakeApp, databases: Databases) -> Administration:
    """The verbs, on a database without accounts."""
    app = make_app(AUTHSVC_DATABASE_URL=databases.empty())
    upgrade(app)
    return parts(app).administration


# The first administrator


def test_the_first_administrators_password_is_made_up(empty: Administration) -> None:
    """Where none is given, one is made: long, and different each time."""
    password = empty.bootstrap(None)
    assert password is not None
    assert len(password) >= 16
    (account,) = empty.accounts()
    assert (account.id, account.name, account.role_code, account.permission) == (1, "admin", "admin", 0)
    assert [(each.event, each.by, each.detail) for each in empty.history(parse_key("1"))] == [
        ("account.added", "service", {})
    ]


def test_a_given_password_is_not_told_back(empty: Administration) -> None:
    """What the operator knows already need not be shown."""
    assert empty.bootstrap(PASSWORD) is None
    assert len(empty.accounts()) == 1


def test_bootstrapping_changes_no_existing_account(administration: Administration, auth: Auth) -> None:
    """Where there is any account, nothing is made and no password changes."""
    assert administration.bootstrap("another-password") is None
    assert [account.name for account in administration.accounts()] == ["admin", "user"]
    assert auth.login("admin", PASSWORD).status == 200


def test_of_many_that_bootstrap_one_does(empty: Administration) -> None:
    """Replicas that start together on an empty database make one administrator, and one of them knows its password."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(empty.bootstrap, [None] * 8))
    assert len([password for password in made if password]) == 1
    assert len(empty.accounts()) == 1


# Accounts


def test_a_new_account_can_log_in_by_name_and_phone(
    administration: Administration, auth: Auth, console: Console
) -> None:
    """With what it was given, and at once."""
    administration.add_account("Zoë", password=PASSWORD, phone="13900000000")
    assert auth.login("ZOE\u0308", PASSWORD).data["username"] == "Zoë"
    assert console.login("13900000000", PASSWORD).data["admin"]["name"] == "Zoë"


def test_a_new_account_has_what_it_is_given(administration: Administration) -> None:
    """And else nothing: the role of everybody, no permission, no phone."""
    administration.add_account("new", password=PASSWORD)
    account = administration.account(parse_key("new"))
    assert (account.role_code, account.permission, account.phone, account.avatar) == ("user", 0, None, None)
    assert (account.disabled, account.otp, account.created_by, account.login_count) == (False, False, None, 0)


@pytest.mark.parametrize("method", ["scrypt:32768:8:1", "pbkdf2:sha256:100000"])
def test_an_account_can_be_imported_with_its_hash(method: str, administration: Administration, auth: Auth) -> None:
    """People who move over keep their passwords."""
    administration.add_account("mover", password_hash=generate_password_hash(PASSWORD, method))
    assert auth.login("mover", PASSWORD).status == 200


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"name": "USER"}, "name"),
        ({"name": "ｕｓｅｒ"}, "name"),
        ({"name": "new", "phone": PHONE}, "phone"),
    ],
)
def test_names_and_phones_are_unique(given: dict[str, str], refusal: str, administration: Administration) -> None:
    """However they are written."""
    with pytest.raises(errors.Conflict) as taken:
        administration.add_account(**given, password=PASSWORD)  # type: ignore[arg-type]
    assert str(taken.value) == refusal


@pytest.mark.parametrize(
    "given",
    [
        {"name": "123"},
        {"name": "a\u202eb"},
        {"name": ""},
        {"password": "short"},
        {"password": None},
        {"password_hash": "nonsense"},
        {"phone": "1380000000"},
        {"phone": ""},
        {"avatar": "a\nb"},
        {"avatar": "\ud800"},
        {"permission": -1},
        {"permission": TOO_MUCH},
    ],
)
def test_an_account_that_could_not_be_is_refused(given: dict[str, Any], administration: Administration) -> None:
    """Nothing is stored that a login, a document or a column could not take."""
    with pytest.raises(errors.BadParameter):
        administration.add_account(**{"name": "new", "password": PASSWORD, **given})
    assert len(administration.accounts()) == 2


@pytest.mark.parametrize(
    ("given", "refusal"),
    [({"role": "nosuch"}, errors.UnknownRole), ({"created_by": parse_key("nobody")}, errors.UnknownAccount)],
)
def test_an_account_refers_to_what_exists(
    given: dict[str, Any], refusal: type[Exception], administration: Administration
) -> None:
    """A role or a creator that is not there is refused, and no account is left behind."""
    with pytest.raises(refusal):
        administration.add_account("new", password=PASSWORD, **given)
    assert len(administration.accounts()) == 2


def test_the_creator_is_noted(administration: Administration, console: Console) -> None:
    """`createByAid` is the id of whoever is named as the creator."""
    administration.add_account("new", password=PASSWORD, created_by=parse_key("1"))
    assert console.login("new", PASSWORD).data["admin"]["createByAid"] == 1


@pytest.mark.parametrize("field", ["phone", "avatar"])
def test_an_empty_field_is_removed(field: str, administration: Administration) -> None:
    """The others stay as they are."""
    before = administration.account(USER)
    administration.change_account(USER, **{field: ""})  # type: ignore[arg-type]
    after = administration.account(USER)
    assert getattr(before, field) is not None
    assert getattr(after, field) is None
    assert after.permissions == before.permissions


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({}, errors.BadParameter),
        ({"phone": "x"}, errors.BadParameter),
        ({"permission": TOO_MUCH}, errors.BadParameter),
        ({"role": "nosuch"}, errors.UnknownRole),
        ({"phone": "13900000000", "role": "nosuch"}, errors.UnknownRole),
    ],
)
def test_a_refused_change_changes_nothing(
    given: dict[str, Any], refusal: type[Exception], administration: Administration
) -> None:
    """A change is made whole or not at all."""
    before = administration.account(USER)
    with pytest.raises(refusal):
        administration.change_account(USER, **given)
    assert administration.account(USER) == before


def test_a_phone_in_use_cannot_be_given_again(administration: Administration) -> None:
    """A phone leads to one account."""
    with pytest.raises(errors.Conflict) as taken:
        administration.change_account(parse_key("admin"), phone=PHONE)
    assert str(taken.value) == "phone"


VERBS: dict[str, Callable[[Administration], object]] = {
    "account": lambda verbs: verbs.account(parse_key("nobody")),
    "change_account": lambda verbs: verbs.change_account(parse_key("nobody"), permission=1),
    "set_password": lambda verbs: verbs.set_password(parse_key("99"), PASSWORD),
    "set_disabled": lambda verbs: verbs.set_disabled(parse_key("13900000000"), True),
    "end_sessions": lambda verbs: verbs.end_sessions(parse_key("9" * 5000)),
    "sessions": lambda verbs: verbs.sessions(parse_key("0")),
    "history": lambda verbs: list(verbs.history(parse_key("99"))),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_account_is_refused(verb: str, administration: Administration) -> None:
    """Every verb says so, whichever kind of key it was."""
    with pytest.raises(errors.UnknownAccount):
        VERBS[verb](administration)


def test_a_new_password_replaces_the_old(administration: Administration, auth: Auth) -> None:
    """From the next login on."""
    administration.set_password(USER, "another-password")
    assert [auth.login("user", password).status for password in (PASSWORD, "another-password")] == [403, 200]


def test_an_enabled_account_can_log_in_again(administration: Administration, auth: Auth) -> None:
    """Disabling is no deletion."""
    administration.set_disabled(USER, True)
    administration.set_disabled(USER, False)
    assert auth.login("user", PASSWORD).status == 200


def test_sessions_are_those_that_live(administration: Administration, auth: Auth, clock: Clock) -> None:
    """Ended and idle ones are not listed, those of other accounts neither."""
    auth.login("user", PASSWORD)
    clock.advance(3600)
    auth.logout(auth.token("user", PASSWORD))
    auth.login("admin", PASSWORD)
    auth.login("user", PASSWORD, headers={"User-Agent": "curl/8"})
    (session,) = administration.sessions(USER)
    assert (session.opened_at, session.address, session.user_agent) == (clock.now, "127.0.0.1", "curl/8")


def test_a_login_during_a_disabling_has_no_session(
    administration: Administration, auth: Auth, token: str, app: Flask
) -> None:
    """However logins and a disabling fall together, afterwards no session is alive."""
    other = Auth(in_process(app))
    with ThreadPoolExecutor(6) as pool:
        logins = [pool.submit(other.login, "user", PASSWORD) for _ in range(10)]
        administration.set_disabled(USER, True)
        tokens = [token, *(login.result().headers.get("satoken", "none") for login in logins)]
    assert {auth.verify(each).status for each in tokens} == {401}


def test_all_wrong_guesses_of_the_day_count_against_an_account(
    administration: Administration, auth: Auth, console: Console, clock: Clock
) -> None:
    """By whichever of its keys; once the day is over, none of them."""
    for key in ("user", "2", PHONE):
        for _ in range(2):
            console.login(key, "wrong")
    auth.login("admin", "wrong")
    user = administration.account(USER)
    assert administration.guesses(user) == Guesses(recent_failures=6, locked_until=None)
    clock.advance(86400)
    assert administration.guesses(user) == Guesses(recent_failures=0, locked_until=None)


@pytest.mark.parametrize("limit", [None, 1, 1000, 1500, 2000, 9999])
def test_the_trail_is_told_whole(administration: Administration, query: Query, limit: int | None) -> None:
    """Newest first, each row once, however long it is and however many happened at the same moment; or the first."""
    query("DELETE FROM trail")
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)"
    columns = '(at, event, account_id, "by", detail)'
    query(f"{numbers} INSERT INTO trail {columns} SELECT n / 7, 'logout', n, 'self', '{{}}' FROM numbers ORDER BY n")
    told = [each.account_id for each in administration.history(limit=limit)]
    assert told == list(range(2500, 0, -1))[:limit]


# At the same moment. Only PostgreSQL has more than one writer at a time.


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
@pytest.mark.parametrize("act", [Administration.end_sessions, Administration.enable_otp, Administration.delete_account])
def test_a_login_in_flight_is_waited_for(
    act: Callable[[Administration, Key], object],
    administration: Administration,
    auth: Auth,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its session is not there yet, and ends with the others."""
    count_login, acting = Repository.count_login, list[Future[object]]()

    def count_login_and_see_somebody_wait(*arguments: Any, **values: Any) -> bool:
        counted = count_login(*arguments, **values)
        acting.append(administrator.submit(act, administration, USER))
        wait_for(lambda: acting[0].done() or query(WAITING))
        return counted

    monkeypatch.setattr(Repository, "count_login", count_login_and_see_somebody_wait)
    with ThreadPoolExecutor(1) as administrator:
        token = auth.token("user", PASSWORD)
        acting[0].result()
    assert auth.verify(token).status == 401


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "act",
    [lambda verbs: verbs.add_account("new", password=PASSWORD), lambda verbs: verbs.add_role("new", "New")],
    ids=["account", "role"],
)
def test_whoever_numbers_rows_does_it_alone(
    act: Callable[[Administration], object], administration: Administration, app: Flask, query: Query
) -> None:
    """Who brings ids along, as an import does, and numbers on behind the highest is waited for."""
    with ThreadPoolExecutor(1) as administrator:
        with parts(app).database.write(exclusive=True):
            adding = administrator.submit(act, administration)
            wait_for(lambda: adding.done() or query(WAITING))
            assert not adding.done()
        adding.result()


# Roles and the console's configuration


@pytest.mark.parametrize("code", ["", "two words", "line\nbreak", "\u200bhidden", "\u2003"])
def test_codes_are_printable_and_without_spaces(code: str, administration: Administration) -> None:
    """Of roles and of permissions alike."""
    with pytest.raises(errors.BadParameter, match=r"^code must"):
        administration.add_role(code, "name")
    with pytest.raises(errors.BadParameter, match=r"^code must"):
        administration.change_role("user", new_code=code)
    with pytest.raises(errors.BadParameter, match=r"^permission must"):
        administration.grant("user", ["fine", code])
    assert [(role.code, role.permissions) for role in administration.roles()[1:]] == [("user", ())]


@pytest.mark.parametrize("number", [0, -1, TOO_MUCH])
def test_an_id_fits_its_column(number: int, administration: Administration) -> None:
    """From 1 on, of accounts and of roles alike."""
    with pytest.raises(errors.BadParameter, match=r"^id must be from 1 to"):
        administration.add_account("new", password=PASSWORD, account_id=number)
    with pytest.raises(errors.BadParameter, match=r"^id must be from 1 to"):
        administration.add_role("new", "New", role_id=number)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\ud800"])
def test_a_role_has_a_name_to_show(name: str, administration: Administration) -> None:
    """A name is text and not only spaces."""
    with pytest.raises(errors.BadParameter):
        administration.add_role("new", name)


def test_role_codes_are_unique(administration: Administration) -> None:
    """A code leads to one role."""
    with pytest.raises(errors.Conflict) as taken:
        administration.add_role("admin", "again")
    assert str(taken.value) == "code"


def test_granting_twice_grants_once(administration: Administration) -> None:
    """Granting what is granted, and revoking what is not, changes nothing."""
    administration.grant("user", ["b", "a", "b"])
    administration.grant("user", ["a"])
    administration.revoke("user", ["c"])
    assert administration.roles()[1].permissions == ("a", "b")


@pytest.mark.parametrize("verb", [Administration.grant, Administration.revoke])
def test_an_unknown_role_is_refused(
    verb: Callable[[Administration, str, list[str]], None], administration: Administration
) -> None:
    """Nothing can be granted to nobody."""
    with pytest.raises(errors.UnknownRole):
        verb(administration, "nosuch", ["a"])


@pytest.mark.parametrize("value", ["", "x", "[]", "1", '"{}"', "{", "{}x", "[" * 100_000])
def test_appcfg_is_a_json_object(value: str, administration: Administration) -> None:
    """The console parses it: anything else would break it for everybody."""
    with pytest.raises(errors.BadParameter, match="appcfg must be a JSON object"):
        administration.set_appcfg(value)
    assert administration.appcfg() == "{}"


# Audit


@pytest.mark.parametrize(
    ("act", "event", "fields"),
    [
        (lambda verbs: verbs.add_account("new", password=PASSWORD), "account.added", {"account_id": 3}),
        (
            lambda verbs: verbs.change_account(USER, permission=4, avatar=""),
            "account.changed",
            {"account_id": 2, "fields": ["avatar", "permission"]},
        ),
        (lambda verbs: verbs.set_password(USER, "another-password"), "password.changed", {"account_id": 2}),
        (lambda verbs: verbs.set_disabled(USER, True), "account.disabled", {"account_id": 2}),
        (lambda verbs: verbs.set_disabled(USER, False), "account.enabled", {"account_id": 2}),
        (lambda verbs: verbs.end_sessions(USER), "account.logged_out", {"account_id": 2}),
        (lambda verbs: verbs.enable_otp(USER), "otp.enabled", {"account_id": 2}),
        (lambda verbs: verbs.disable_otp(USER), "otp.disabled", {"account_id": 2}),
        (lambda verbs: verbs.unlock(USER), "account.unlocked", {"account_id": 2}),
        (lambda verbs: verbs.delete_account(USER), "account.deleted", {"account_id": 2, "name": "user"}),
        (lambda verbs: verbs.add_role("new", "New"), "role.added", {"role": "new"}),
        (
            lambda verbs: verbs.change_role("user", new_code="new", name="New"),
            "role.changed",
            {"role": "user", "code": "new", "name": "New"},
        ),
        (lambda verbs: verbs.grant("user", ["a", "b"]), "role.granted", {"role": "user", "permissions": ["a", "b"]}),
        (lambda verbs: verbs.revoke("user", ["a"]), "role.revoked", {"role": "user", "permissions": ["a"]}),
        (lambda verbs: verbs.set_appcfg("{}"), "appcfg.changed", {}),
    ],
)
def test_every_act_is_an_audit_event(
    act: Callable[[Administration], object],
    event: str,
    fields: dict[str, object],
    administration: Administration,
    log: Log,
) -> None:
    """One line each, that says what was done and to whom."""
    act(administration)
    (line,) = log.lines()
    assert {name: value for name, value in line.items() if name not in {"time", "level"}} == {"event": event, **fields}


def test_a_role_that_is_deleted_is_an_audit_event(administration: Administration, log: Log) -> None:
    """By its code: its name may be another's by now."""
    administration.add_role("new", "New")
    administration.delete_role("new")
    assert [line["role"] for line in log.lines("role.deleted")] == ["new"]


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        (lambda verbs: verbs.set_disabled(USER, True), "account.disabled"),
        (lambda verbs: verbs.set_password(USER, "another-password"), "password.changed"),
        (lambda verbs: verbs.end_sessions(USER), "account.logged_out"),
        (lambda verbs: verbs.enable_otp(USER), "otp.enabled"),
        (lambda verbs: verbs.disable_otp(USER), "otp.disabled"),
    ],
)
@pytest.mark.usefixtures("token")
def test_ended_sessions_are_an_audit_event(
    act: Callable[[Administration], object], cause: str, administration: Administration, log: Log
) -> None:
    """What ended them, and how many they were."""
    act(administration)
    (line,) = log.lines("session.ended")
    assert (line["cause"], line["account_id"], line["count"]) == (cause, 2, 1)


# What a console or a terminal would show, and would run


@pytest.mark.parametrize("avatar", ["https://a.example/b.png", "http://a.example", "HTTPS://a", "/avatars/1.png", "/"])
def test_an_avatar_is_a_path_or_a_web_address(avatar: str, administration: Administration) -> None:
    """As people have them."""
    administration.change_account(USER, avatar=avatar)
    assert administration.account(USER).avatar == avatar


@pytest.mark.parametrize(
    "avatar",
    [
        *("javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "data:text/html,x", "vbscript:x"),
        *("//evil.example/x", "ftp://a.example", "avatar.png", "file:///etc/passwd", "x https://a", "java\nscript:x"),
        "https://a/" + "x" * 503,
    ],
)
def test_an_avatar_is_nothing_that_runs(avatar: str, administration: Administration) -> None:
    """Nor one that leads elsewhere, or has no end; neither at first nor later."""
    for act in (
        lambda: administration.change_account(USER, avatar=avatar),
        lambda: administration.add_account("new", password=PASSWORD, avatar=avatar),
    ):
        with pytest.raises(errors.BadParameter, match="avatar must be a path or an http"):
            act()


@pytest.mark.parametrize(
    "name", ["\u202eresU", "a\u200bb", "a\u2066b", "\ufeffa", "a\x1b[31m", "\u2800", " a", "a ", "", "x" * 65, "a\nb"]
)
def test_a_role_is_called_what_it_shows(name: str, administration: Administration) -> None:
    """No bidirectional override, nothing invisible, as in the names of accounts."""
    with pytest.raises(errors.BadParameter, match=r"^name "):
        administration.add_role("new", name)
    assert "new" not in {role.code for role in administration.roles()}


def test_a_role_may_be_called_what_an_account_may_not(administration: Administration) -> None:
    """All digits, for one: nobody logs in with it."""
    administration.add_role("new", "2026")
    assert administration.roles()[-1].name == "2026"


def test_a_permission_fits_its_column(administration: Administration) -> None:
    """63 bits, as columns have them."""
    administration.change_account(USER, permission=TOO_MUCH - 1)
    with pytest.raises(errors.BadParameter, match=r"^permission must be from 0 to 9223372036854775807$"):
        administration.change_account(USER, permission=TOO_MUCH)
    assert administration.account(USER).permission == TOO_MUCH - 1


@pytest.mark.parametrize("act", ["add_role", "grant"])
def test_a_code_has_its_length(act: str, administration: Administration) -> None:
    """128 characters."""
    acts = {
        "add_role": lambda code: administration.add_role(code, "New"),
        "grant": lambda code: administration.grant("user", [code]),
    }
    acts[act]("x" * 128)
    with pytest.raises(errors.BadParameter, match="1 to 128 printable characters"):
        acts[act]("x" * 129)


def test_appcfg_has_its_length(administration: Administration) -> None:
    """16 KiB: each answer to the console carries it."""
    longest = '{"a": "' + "x" * (16 * 1024 - 9) + '"}'
    administration.set_appcfg(longest)
    with pytest.raises(errors.BadParameter, match="a JSON object of up to 16384 characters"):
        administration.set_appcfg(longest + " ")
    assert administration.appcfg() == longest


def test_the_made_up_password_has_128_bits(empty: Administration) -> None:
    """22 characters of 64: somebody has to type it."""
    password = empty.bootstrap(None)
    assert password is not None
    assert len(password) == math.ceil(128 / 6)


def test_a_password_that_is_set_is_held_to_name_and_phone(administration: Administration) -> None:
    """By an administrator as by its owner, for a new account as for an old one."""
    for password in ("user2026", "13800000000"):
        with pytest.raises(errors.BadParameter, match="little more than"):
            administration.set_password(USER, password)
    with pytest.raises(errors.BadParameter, match="little more than"):
        administration.add_account("somebody", password="Somebody-1")


def test_the_least_length_holds_for_administrators(database_url: str) -> None:
    """AUTHSVC_PASSWORD_MIN reaches what hashes."""
    environ = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET_KEY, "PASSWORD_MIN": "15"}
    app = create_app(load({f"AUTHSVC_{name}": value for name, value in environ.items()}))
    with pytest.raises(errors.BadParameter, match="must have 15 to 256 characters"):
        parts(app).administration.set_password(USER, "fourteen chars")
    close(app)
