"""One table of situations, run through both dialects: what each of them answers, to the word."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import TimestampSigner

from authsvc.passwords import Passwords
from authsvc.tokens import Tokens
from tests.conftest import MakeApp, World
from tests.databases import NOW, PASSWORD, SECRET_KEY, Databases
from tests.dialects import FORM, JSON, Ask, Auth, Console, in_process
from tests.refusals import (
    ABSENT_PARAMETER,
    ACCOUNT_DISABLED,
    BAD_PARAMETER,
    CROSS_SITE,
    DEFECT,
    GRANTED,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
    TOKEN_REVOKED,
    TOO_LARGE,
    UNAVAILABLE,
    UNREADABLE_BODY,
    WRONG_CREDENTIALS,
    WRONG_METHOD,
    WRONG_TYPE,
    Refused,
    Verdict,
)

Query = Callable[..., list[Any]]
Situation = tuple[Ask, tuple[Verdict, Verdict]]

RIGHT = f"NAME=user&password={PASSWORD}"
RIGHT_JSON = json.dumps({"NAME": "user", "password": PASSWORD})
BODY_MAX = 16 * 1024

absent, bad = ABSENT_PARAMETER.of, BAD_PARAMETER.of


def form(text: str | bytes) -> Ask:
    """A form."""
    return Ask(body=text)


def query(text: str) -> Ask:
    """Parameters in the URL, as the document has them."""
    return Ask(method="GET", query=text)


def json_text(text: str | bytes) -> Ask:
    """A JSON body, well-formed or not."""
    return Ask(body=text, type=JSON)


def json_of(**parameters: object) -> Ask:
    """A JSON body."""
    return json_text(json.dumps(parameters))


def from_site(**headers: str) -> Ask:
    """The right password, with what a browser says about where the request comes from."""
    return Ask(body=RIGHT, headers={name.replace("_", "-"): value for name, value in headers.items()})


def padded(length: int) -> Ask:
    """The right password in a body of this length."""
    return Ask(body=f"{RIGHT}&remember=", length=length)


LOGINS: dict[str, Situation] = {
    # The right password
    "form": (form(RIGHT), GRANTED),
    "query": (query(RIGHT), GRANTED),
    "query of a POST": (Ask(query=RIGHT), GRANTED),
    "JSON": (json_text(RIGHT_JSON), GRANTED),
    "form of a GET": (Ask(method="GET", body=RIGHT), GRANTED),
    "name in the query, password in the form": (Ask(query="NAME=user", body=f"password={PASSWORD}"), GRANTED),
    "form with a charset": (Ask(body=RIGHT, type=f"{FORM}; charset=UTF-8"), GRANTED),
    "JSON with a charset": (Ask(body=RIGHT_JSON, type="Application/JSON;charset=utf-8"), GRANTED),
    "in capitals": (form(RIGHT.replace("user", "USER")), GRANTED),
    "in full-width letters": (form(RIGHT.replace("user", quote("ｕｓｅｒ"))), GRANTED),
    "unknown parameters": (form(f"{RIGHT}&remember=%ff&remember=%00&x={'x' * 300}&y"), GRANTED),
    "unknown JSON members": (json_text(RIGHT_JSON[:-1] + f', "x": null, "y": {{"x": {"9" * 5000}}}}}'), GRANTED),
    "unknown parameter without a name": (form(f"={'x' * 300}&{RIGHT}&&"), GRANTED),
    "an empty one-time code": (form(f"{RIGHT}&otp_code="), GRANTED),
    # Another password, another name
    "wrong password": (form("NAME=user&password=wrong"), WRONG_CREDENTIALS),
    "password in capitals": (
        form(RIGHT.upper().replace("NAME=USER&PASSWORD", "NAME=user&password")),
        WRONG_CREDENTIALS,
    ),
    "password with a space": (form(f"{RIGHT}%20"), WRONG_CREDENTIALS),
    "unknown account": (form(f"NAME=nobody&password={PASSWORD}"), WRONG_CREDENTIALS),
    "zero-width character in the name": (form(RIGHT.replace("user", "us%E2%80%8Ber")), WRONG_CREDENTIALS),
    "bidirectional character in the name": (form(RIGHT.replace("user", "%E2%80%AEuser")), WRONG_CREDENTIALS),
    "space around the name": (form(RIGHT.replace("user", "+user+")), WRONG_CREDENTIALS),
    "as many characters as there may be": (form(f"NAME={'é' * 256}&password={'é' * 256}"), WRONG_CREDENTIALS),
    "what looks like SQL": (form("NAME=user'+--&password='+or+1=1+--"), WRONG_CREDENTIALS),
    "lone percent sign": (form("NAME=%&password=%zz"), WRONG_CREDENTIALS),
    "disabled account, right password": (form(f"NAME=off&password={PASSWORD}"), ACCOUNT_DISABLED),
    "disabled account, wrong password": (form("NAME=off&password=wrong"), WRONG_CREDENTIALS),
    # Missing and empty
    "nothing": (Ask(), absent("NAME is missing")),
    "empty JSON object": (json_text("{}"), absent("NAME is missing")),
    "no name": (form("password=x"), absent("NAME is missing")),
    "no password": (form("NAME=user"), absent("password is missing")),
    "empty name": (form("NAME=&password=x"), absent("NAME is empty")),
    "empty password": (form("NAME=user&password="), absent("password is empty")),
    "name without a value": (form("NAME&password=x"), absent("NAME is empty")),
    "empty JSON name": (json_of(NAME="", password="x"), absent("NAME is empty")),
    "other case of a parameter's name": (form(RIGHT.replace("password", "Password")), absent("password is missing")),
    # Repeated
    "name twice in the query": (query(f"{RIGHT}&NAME=user"), bad("NAME is sent more than once")),
    "name twice in the form": (form(f"{RIGHT}&NAME=user"), bad("NAME is sent more than once")),
    "name in the query and in the form": (Ask(query="NAME=user", body=RIGHT), bad("NAME is sent more than once")),
    "name in the query and in JSON": (
        replace(json_text(RIGHT_JSON), query="NAME="),
        bad("NAME is sent more than once"),
    ),
    "name twice in JSON": (json_text(f'{RIGHT_JSON[:-1]}, "NAME": "user"}}'), bad("NAME is sent more than once")),
    "password twice": (form(f"{RIGHT}&password="), bad("password is sent more than once")),
    # Too long
    "long name": (form(f"NAME={'x' * 257}&password=x"), bad("NAME is longer than 256 characters")),
    "long password": (form(f"NAME=user&password={'x' * 257}"), bad("password is longer than 256 characters")),
    "5,000 digits": (form(f"NAME={'9' * 5000}&password=x"), bad("NAME is longer than 256 characters")),
    "long JSON name": (json_of(NAME="x" * 257, password="x"), bad("NAME is longer than 256 characters")),
    # Not text
    **{
        f"{what} for a {name} in a {where}": (
            replace(make(f"{RIGHT}&{name}=".replace(f"&{name}=", "")), **{field: broken}),  # type: ignore[arg-type]
            bad(f"{name} is not text"),
        )
        for what, value in {
            "invalid UTF-8": "%ff",
            "overlong UTF-8": "%c0%af",
            "NUL": "user%00",
            "line break": "a%0d%0ab",
            "escape": "%1b[31m",
            "C1 control": "%c2%85",
            "surrogate": "%ed%a0%80",
        }.items()
        for name in ("NAME", "password")
        for where, make, field in (("form", form, "body"), ("query", query, "query"))
        for broken in ["&".join(f"{n}={value if n == name else 'x'}" for n in ("NAME", "password"))]
    },
    **{
        f"JSON {value!s:.20} for a {name}": (
            json_of(**{"NAME": "x", "password": "x", name: value}),
            bad(f"{name} is not text"),
        )
        for value in (
            None,
            1,
            0,
            1.5,
            True,
            False,
            [],
            ["user"],
            {},
            {"a": 1},
            "a\0b",
            "\ud800",
            "\udfff\ud800",
            "a\nb",
        )
        for name in ("NAME", "password")
    },
    "huge number for a name": (json_text(f'{{"NAME": {"9" * 5000}, "password": "x"}}'), bad("NAME is not text")),
    "raw invalid UTF-8 in a form": (form(b"NAME=\xff&password=x"), bad("NAME is not text")),
    "raw invalid UTF-8 in JSON": (json_text(b'{"NAME": "\xff", "password": "x"}'), bad("NAME is not text")),
    # Unreadable bodies
    **{
        f"JSON body {body[:12]!r}": (json_text(body), UNREADABLE_BODY)
        for body in (
            *("x", "{", '{"NAME": "user"', "{}x", "{'NAME': 'user'}", '{"NAME": }', "\ufeff{}", '{"NAME": "a\nb"}'),
            *("[]", '["user"]', '"user"', "1", "true", "null", "NaN", '{"x": NaN}', '{"x": -Infinity}'),
            *("[" * 16_000, '{"a":' * 3_000, '{"NAME": ' + "[" * 15_000),
            *(b"\xff\xfe{}", b"\x00", b"\xff"),
        )
    },
    # Bodies of other types and sizes
    **{
        f"type {kind!r}": (Ask(body=RIGHT, type=kind), WRONG_TYPE)
        for kind in ("text/plain", "multipart/form-data; boundary=x", "application/xml", "application/jsonp", "x", "")
    },
    "largest body": (padded(BODY_MAX), GRANTED),
    "too large body": (padded(BODY_MAX + 1), TOO_LARGE),
    "much too large body": (padded(BODY_MAX * 100), TOO_LARGE),
    "too large body of another type": (Ask(body="x" * (BODY_MAX + 1), type="text/plain"), TOO_LARGE),
    # Browsers
    "cross-site": (from_site(Sec_Fetch_Site="cross-site"), CROSS_SITE),
    "cross-site in capitals": (from_site(Sec_Fetch_Site="Cross-Site"), CROSS_SITE),
    "cross-site GET": (Ask(method="GET", query=RIGHT, headers={"Sec-Fetch-Site": "cross-site"}), CROSS_SITE),
    "cross-site from somewhere": (from_site(Sec_Fetch_Site="cross-site", Origin="https://evil.example"), CROSS_SITE),
    "cross-site from nowhere": (from_site(Sec_Fetch_Site="cross-site", Origin="null"), CROSS_SITE),
    "prefetch": (from_site(Sec_Purpose="prefetch"), CROSS_SITE),
    "prerender": (from_site(Sec_Purpose="prefetch;prerender", Sec_Fetch_Site="same-origin"), CROSS_SITE),
    "same-origin": (from_site(Sec_Fetch_Site="same-origin"), GRANTED),
    "same-site": (from_site(Sec_Fetch_Site="same-site"), CROSS_SITE),
    "address bar": (from_site(Sec_Fetch_Site="none"), GRANTED),
    "older browser": (from_site(Origin="http://localhost"), GRANTED),
    "older browser, another site": (from_site(Origin="https://console.example"), CROSS_SITE),
    "older browser, another port": (from_site(Origin="http://localhost:8080"), CROSS_SITE),
    "older browser, nowhere": (from_site(Origin="null"), CROSS_SITE),
    "link": (replace(query(RIGHT), headers={"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}), GRANTED),
    "image": (replace(query(RIGHT), headers={"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"}), CROSS_SITE),
    # Methods
    **{f"{method}": (Ask(method=method, query=RIGHT), WRONG_METHOD) for method in ("PUT", "PATCH", "DELETE", "FOO")},
}


@pytest.mark.parametrize("name", LOGINS)
def test_both_dialects_judge_a_login(name: str, world: World, query: Query) -> None:
    """Each answers in its own words; a session is opened by the granted login alone."""
    ask, verdicts = LOGINS[name]
    if name.startswith("disabled"):
        world.command("account", "add", "off", "--password-stdin", stdin=PASSWORD)
        world.command("account", "disable", "off")
    for dialect, (code, text) in zip((world.auth, world.console), verdicts, strict=True):
        opened = query("SELECT count(*) FROM session")[0][0]
        expected = code, text and text.replace("NAME", dialect.name_parameter)
        assert dialect.verdict(dialect.ask(dialect.login_path, ask)) == expected
        assert query("SELECT count(*) FROM session")[0][0] - opened == (code == 200)


@pytest.mark.parametrize("name", ["cross-site", "prefetch", "too large body", "PUT"])
def test_both_dialects_judge_a_logout(name: str, world: World, token: str) -> None:
    """What is refused ends no session."""
    ask, verdicts = LOGINS[name]
    for dialect, verdict in zip((world.auth, world.console), verdicts, strict=True):
        assert dialect.verdict(dialect.ask(dialect.logout_path, ask, token)) == verdict
    assert world.auth.verify(token).status == 200


@pytest.mark.parametrize("path", ["login", "logout"])
def test_head_and_options_do_nothing(path: str, world: World, token: str, query: Query) -> None:
    """HEAD is no GET here, and OPTIONS only tells what there is."""
    for dialect, status in ((world.auth, 405), (world.console, 200)):
        target = dialect.login_path if path == "login" else dialect.logout_path
        head = dialect.ask(target, Ask(method="HEAD", query=RIGHT), token)
        options = dialect.ask(target, Ask(method="OPTIONS", query=RIGHT), token)
        assert (head.status, head.body, options.status) == (status, b"", 200)
        for answer in (head, options):
            assert set(answer.headers["Allow"].split(", ")) == {"GET", "OPTIONS", "POST"}
    assert world.auth.verify(token).status == 200
    assert query("SELECT count(*) FROM session") == [(1,)]


# Tokens in every state


def in_the_future(world: World) -> str:
    """A token issued by a clock that was an hour ahead."""
    world.clock.advance(3600)
    token = world.auth.token("user", PASSWORD)
    world.clock.advance(-3600)
    return token


def after(happens: Callable[[World, str], object]) -> Callable[[World], str]:
    """A token to which something has happened."""

    def token(world: World) -> str:
        issued = world.auth.token("user", PASSWORD)
        happens(world, issued)
        return issued

    return token


def purge(world: World) -> None:
    """Let time pass, and a login that clears up behind it."""
    world.clock.advance(43_261)
    world.auth.login("admin", PASSWORD)


def spoilt(spoil: Callable[[str], str]) -> Callable[[World], str]:
    """A live token whose text was changed."""
    return lambda world: spoil(world.auth.token("user", PASSWORD))


def signed(value: str, key: str = SECRET_KEY, salt: str = "authsvc.session") -> str:
    """What somebody else might sign."""
    return TimestampSigner(key, salt=salt, key_derivation="hmac").sign(value).decode()


def other_first(token: str) -> str:
    """The token with another first character."""
    return ("B" if token.startswith("A") else "A") + token[1:]


LIVE = None

TOKENS: dict[str, tuple[Callable[[World], str | None], Refused | None]] = {
    "of /api/auth": (lambda world: world.auth.token("user", PASSWORD), LIVE),
    "of /AccAdmin": (lambda world: world.console.token("user", PASSWORD), LIVE),
    "none": (lambda _: None, TOKEN_MISSING),
    "empty": (lambda _: "", TOKEN_MISSING),
    "only spaces": (lambda _: "   ", TOKEN_MISSING),
    "too old": (after(lambda world, _: world.clock.advance(43_200)), TOKEN_EXPIRED),
    "idle": (after(lambda world, _: world.clock.advance(3_600)), TOKEN_EXPIRED),
    "too old and purged": (
        after(lambda world, _: purge(world)),
        TOKEN_EXPIRED,
    ),
    "ended by /api/auth": (after(lambda world, token: world.auth.logout(token)), TOKEN_REVOKED),
    "ended by /AccAdmin": (after(lambda world, token: world.console.exit(token)), TOKEN_REVOKED),
    "replaced": (after(lambda world, token: world.console.login("user", PASSWORD, token=token)), TOKEN_REVOKED),
    "of a disabled account": (after(lambda world, _: world.command("account", "disable", "user")), TOKEN_REVOKED),
    "ended by an administrator": (after(lambda world, _: world.command("account", "logout", "user")), TOKEN_REVOKED),
    "before a new password": (
        after(lambda world, _: world.command("account", "password", "2", "--password-stdin", stdin="a-new-password")),
        TOKEN_REVOKED,
    ),
    "well signed, but of no session": (lambda _: Tokens([SECRET_KEY], lambda: NOW).issue()[0], TOKEN_REVOKED),
    "dated in the future": (in_the_future, TOKEN_INVALID),
    "cut": (spoilt(lambda token: token[:-1]), TOKEN_INVALID),
    "altered": (spoilt(other_first), TOKEN_INVALID),
    "doubled": (spoilt(lambda token: token + token), TOKEN_INVALID),
    "doubled with a comma": (spoilt(lambda token: f"{token}, {token}"), TOKEN_INVALID),
    "quoted": (spoilt(lambda token: f'"{token}"'), TOKEN_INVALID),
    "of another key": (lambda _: Tokens(["x" * 32]).issue()[0], TOKEN_INVALID),
    "of another purpose": (lambda _: signed("i" * 32, salt="authsvc.seed"), TOKEN_INVALID),
    "of another digest": (lambda _: signed("i" * 32), TOKEN_INVALID),
    "garbage": (lambda _: "5b317500-9f75-4f8d-b2ba-c15174f4254c", TOKEN_INVALID),
    "not ASCII": (lambda _: "é" * 40, TOKEN_INVALID),
    "long": (lambda _: "x" * 5000, TOKEN_INVALID),
}


@pytest.mark.parametrize("name", TOKENS)
def test_both_dialects_judge_a_token(name: str, world: World) -> None:
    """Each endpoint that takes a token tells, in its own words, what became of it."""
    make, refused = TOKENS[name]
    token = make(world)
    auth, console = world.auth, world.console
    # No token at all is a login without a name, and nothing to log out.
    login = absent("username is missing") if refused is TOKEN_MISSING else refused
    logout = None if refused is TOKEN_MISSING else refused
    assert auth.verdict(auth.verify(token)) == ((401, refused.reason) if refused else (200, None))
    assert auth.verdict(auth.whoami(token)) == (login or GRANTED)[0]
    assert console.verdict(console.info(token)) == (refused or GRANTED)[1]
    # Last, as it ends what lives.
    assert auth.verdict(auth.logout(token)) == (logout or GRANTED)[0]
    assert console.verdict(console.exit(token)) == (200, "ok")


# The service itself in trouble


def test_a_database_that_is_away_is_no_verdict(make_app: MakeApp, databases: Databases) -> None:
    """Both dialects say 503, which lets nginx try another replica, and when to come back."""
    send = in_process(make_app(AUTHSVC_DATABASE_URL=databases.empty()))
    auth, console, token = Auth(send), Console(send), Tokens([SECRET_KEY], lambda: NOW).issue()[0]
    for answer in (auth.login("user", PASSWORD), auth.verify(token), auth.logout(token), auth.whoami(token)):
        assert (auth.verdict(answer), answer.headers["Retry-After"]) == (UNAVAILABLE.auth, "5")
    for answer in (console.login("user", PASSWORD), console.info(token), console.exit(token)):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert console.verdict(answer) == UNAVAILABLE.console


class BrokenPasswords(Passwords):
    """Fails as nothing should."""

    def matches(self, stored: str, password: str) -> bool:
        """Fail, and quote what nobody may see."""
        raise RuntimeError(f"{stored} {password}")


def test_a_mistake_of_ours_gives_nothing_away(make_app: MakeApp) -> None:
    """Neither a stack trace nor what the program was working on."""
    send = in_process(make_app(BrokenPasswords()))
    auth, console = Auth(send), Console(send)
    assert auth.verdict(auth.login("user", PASSWORD)) == DEFECT.auth
    assert console.verdict(console.login("user", PASSWORD)) == DEFECT.console


# Whatever is sent

NAMES = st.sampled_from(["username", "key", "password", "permission", "otp_code", "satoken"]) | st.text(max_size=5)
PAIRS = st.lists(st.tuples(NAMES, st.binary(max_size=300) | st.just(PASSWORD.encode()) | st.just(b"user")), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
BODIES = (
    st.tuples(st.just(FORM), PAIRS.map(lambda pairs: urlencoded(pairs).encode()))
    | st.tuples(st.just(JSON), st.dictionaries(NAMES, VALUES, max_size=4).map(lambda value: json.dumps(value).encode()))
    | st.tuples(st.sampled_from([FORM, JSON, "text/plain", ""]), st.binary(max_size=200))
)


def urlencoded(pairs: list[tuple[str, bytes]]) -> str:
    """As a form or a query has it."""
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)


@given(
    method=st.sampled_from(["GET", "POST"]), query=PAIRS, body=BODIES, token=st.none() | st.text("aB.-_=", max_size=99)
)
def test_nothing_that_is_sent_breaks_a_dialect(
    method: str, query: list[tuple[str, bytes]], body: tuple[str, bytes], token: str | None, world: World
) -> None:
    """Whatever the parameters hold, each answer is one of the dialect's own and none is an error of ours."""
    # The wrong guesses among what is sent stay below every limit: 429 is told elsewhere.
    world.clock.advance(86400)
    for path in ("/login", "/logout", "/verify"):
        headers = {"Content-Type": body[0]} if body[1] else {}
        target = f"{path}?{urlencoded(query)}"
        answer = world.auth.call(method, target, body=body[1], headers=headers, token=token)
        assert world.auth.verdict(answer)[0] in {200, 400, 401, 403, 405, 415}
    for path in ("/doLogin", "/doExit", "/getLoginInfo"):
        answer = world.console.call(method, f"{path}?{urlencoded(query)}", body=body[1], headers=headers, token=token)
        assert world.console.verdict(answer) != DEFECT.console
