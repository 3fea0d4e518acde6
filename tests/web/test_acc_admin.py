"""What only the `/AccAdmin` dialect has: its documents, its keys, its times."""

import json

import pytest

from tests.conftest import Clock, Commands, MakeApp
from tests.databases import AVATAR, PASSWORD, PHONE
from tests.dialects import Ask, Auth, Console, in_process
from tests.refusals import TOKEN_REVOKED, WRONG_CREDENTIALS

ADMIN = {
    "id": 2,
    "name": "user",
    "avatar": AVATAR,
    "password": "********",
    "phone": PHONE,
    "roleId": 2,
    "status": 1,
    "createByAid": -1,
    "createTime": "2026-02-02 02:40:00",
    "loginTime": "2026-02-02 02:41:00",
    "loginIp": "127.0.0.1",
    "loginCount": 1,
    "roleName": "普通账号",
}


def exactly(document: object) -> str:
    """The very text of a JSON answer, order and types included."""
    return json.dumps(document, ensure_ascii=False)


def test_do_login_answers_as_the_document_says(console: Console, clock: Clock) -> None:
    """Every field in the document's order and of its types; this login is counted already."""
    clock.advance(60)
    answer = console.login("user", PASSWORD)
    token_info = {"tokenName": "satoken", "tokenValue": answer.data["tokenInfo"]["tokenValue"]}
    data = {"admin": ADMIN, "appCfg": "{}", "perList": [], "tokenInfo": token_info}
    assert answer.body.decode() == exactly({"code": 200, "msg": "ok", "data": data})


def test_get_login_info_answers_as_the_document_says(console: Console, command: Commands) -> None:
    """The same without `tokenInfo`; permissions sorted, the configuration as a string."""
    command("appcfg", "set", '{"title":"控制台"}')
    command("role", "grant", "admin", "aaa", "zzz")
    token = console.token("admin", PASSWORD)
    admin = ADMIN | {"id": 1, "name": "admin", "avatar": None, "phone": None, "roleId": 1, "roleName": "开发者"}
    data = {
        "admin": admin | {"loginTime": "2026-02-02 02:40:00"},
        "appCfg": '{"title":"控制台"}',
        "perList": ["aaa", "bas", "dev", "in-system", "zzz"],
    }
    assert console.info(token).body.decode() == exactly({"code": 200, "msg": "ok", "data": data})


def test_do_exit_answers_as_the_document_says(console: Console, token: str) -> None:
    """With or without a session."""
    assert {console.exit(each).body.decode() for each in (token, token, None)} == {
        '{"code": 200, "msg": "ok", "data": null}'
    }


def test_do_exit_ends_the_session(console: Console, token: str) -> None:
    """At once."""
    console.exit(token)
    assert console.verdict(console.info(token)) == TOKEN_REVOKED.console


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_console_may_get_and_post(method: str, console: Console) -> None:
    """As its client does, with the token in a header named `satoken`."""
    token = console.ask("/doLogin", Ask(method=method, query=f"key=user&password={PASSWORD}")).data["tokenInfo"]
    headers = {token["tokenName"]: token["tokenValue"]}
    assert console.call(method, "/getLoginInfo", headers=headers).data["admin"]["name"] == "user"
    assert console.verdict(console.call(method, "/doExit", headers=headers)) == (200, "ok")


def test_the_token_is_a_cookie_too(console: Console) -> None:
    """For what the console loads without its header; no other site's page makes a browser send it."""
    answer = console.login("user", PASSWORD)
    token = answer.data["tokenInfo"]["tokenValue"]
    assert answer.cookie == ["satoken", token, "HttpOnly", "Path=/", "SameSite=Strict"]
    assert "satoken" not in answer.headers


@pytest.mark.parametrize("token", [None, "garbage", "live"])
def test_do_exit_clears_the_cookie(token: str | None, console: Console) -> None:
    """Whether there was something to end or not."""
    answer = console.exit(console.token("user", PASSWORD) if token == "live" else token)
    assert answer.cookie[:2] == ["satoken", ""]
    assert "Max-Age=0" in answer.cookie


def test_nothing_else_sets_the_cookie(console: Console, token: str) -> None:
    """Neither a refused login nor a look at the session."""
    answers = [console.login("user", "wrong", token=token), console.info(token)]
    assert not [answer for answer in answers if "Set-Cookie" in answer.headers]


# Keys

ACCOUNTS = {"2": "user", "user": "user", "USER": "user", PHONE: "user", "1": "admin", "ａdmin": "admin"}
NOBODY = ["02", "+2", "-2", "2.0", "２", "²", " 2", "0", "3", "9223372036854775807", "9223372036854775808", "9" * 256]


@pytest.mark.parametrize("key", ACCOUNTS)
def test_an_account_has_several_keys(key: str, console: Console) -> None:
    """Its id, its name however written, its phone."""
    assert console.login(key, PASSWORD).data["admin"]["name"] == ACCOUNTS[key]


@pytest.mark.parametrize("key", [*NOBODY, "13800000001", "1380000000", "１３８００００００００", "010001", "+10001"])
def test_what_only_looks_like_a_key_is_nobody(key: str, console: Console) -> None:
    """There is no falling through from one kind to the next, and no number is an error."""
    assert console.verdict(console.login(key, PASSWORD)) == WRONG_CREDENTIALS.console


def test_a_phone_is_never_an_id(console: Console, command: Commands) -> None:
    """11 digits lead to the account with that phone, and from there nowhere else."""
    command("account", "set", "user", "--phone", "")
    command("account", "set", "admin", "--phone", PHONE)
    assert console.login(PHONE, PASSWORD).data["admin"]["name"] == "admin"


# What is told about an account


def test_times_are_local(make_app: MakeApp) -> None:
    """In the configured time zone, without saying which."""
    console = Console(in_process(make_app(AUTHSVC_TIMEZONE="Asia/Shanghai")))
    admin = console.login("user", PASSWORD).data["admin"]
    assert (admin["createTime"], admin["loginTime"]) == ("2026-02-02 10:40:00", "2026-02-02 10:40:00")


def test_logins_of_both_dialects_count(auth: Auth, console: Console) -> None:
    """Failed ones do not."""
    auth.login("user", PASSWORD)
    auth.login("user", "wrong")
    console.login("user", "wrong")
    assert console.login("2", PASSWORD).data["admin"]["loginCount"] == 2


def test_the_last_login_is_where_it_came_from(make_app: MakeApp) -> None:
    """Its address, in canonical form."""
    app = make_app()
    for peer, told in (
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:DB8::0:1", "2001:db8::1"),
    ):
        assert Console(in_process(app, peer)).login("user", PASSWORD).data["admin"]["loginIp"] == told


def test_a_creator_is_told_by_id(console: Console, command: Commands) -> None:
    """And -1 where there is none."""
    command("account", "add", "new", "--created-by", "user", "--password-stdin", stdin=PASSWORD)
    told = [console.login(key, PASSWORD).data["admin"]["createByAid"] for key in ("new", "user")]
    assert told == [2, -1]
