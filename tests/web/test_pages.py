"""The pages for people, as far as no browser is needed. `.ci/chromium.py` tries them in one."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from flask import Flask

from authsvc.web import api_auth
from tests.description import described
from tests.dialects import Answer, in_process
from tests.servers import ROOT

PAGES = ["login", "account"]
WORD = re.compile(r'^    (?:"(.+?)"|(\w+)): "(.+)",$', re.MULTILINE)
# No person meets these: the page sends what the service wants.
NOT_FOR_PEOPLE = {"is missing", "Path is", "Method is", "Body ", "Request cannot", "Permission is", "Token is"}


def source(name: str) -> str:
    """A page as it lies in the package, with what it shares in its place."""

    def read(name: str) -> str:
        return Path(ROOT, f"authsvc/web/{name}").read_text("utf-8")

    return re.sub(r"^\{\{(pages\.\w+)\}\}\n", lambda shared: read(shared[1]), read(f"{name}.html"), flags=re.MULTILINE)


def inline(html: str, element: str) -> str:
    """What is in the page's one element of this kind."""
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
    return str(content)


def words(name: str, language: str) -> dict[str, str]:
    """What a page says in a language, by key."""
    html = source(name)
    start = html.index(f"\n  {language}: {{\n")
    block = html[start : html.index("\n  },\n", start)]
    return {quoted or bare: text for quoted, bare, text in WORD.findall(block)}


def answered(app: Flask, name: str, method: str = "GET") -> Answer:
    """A page as it is served."""
    return described(in_process(app))(method, f"/{name}", {}, b"")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_served_in_one_piece(app: Flask, name: str) -> None:
    """The file in the package, with style and script of both pages in it, as HTML."""
    answer = answered(app, name)
    assert all(shared in answer.body.decode() for shared in ("font-size: max(100%, .6vw)", "function serve(form"))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.body.decode() == source(name)


@pytest.mark.parametrize("name", PAGES)
def test_head_tells_the_same_without_it(app: Flask, name: str) -> None:
    """Length and policy are those of the page."""
    got, told = answered(app, name), answered(app, name, "HEAD")
    assert (told.status, told.body) == (200, b"")
    assert {key: told.headers[key] for key in ("Content-Length", "Content-Security-Policy")} == {
        key: got.headers[key] for key in ("Content-Length", "Content-Security-Policy")
    }


@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_what_is_in_it_and_nothing_else(app: Flask, name: str) -> None:
    """The policy lets through the one inline element of each kind, by its hash; forms and frames are shut."""
    digests = [
        base64.b64encode(hashlib.sha256(inline(source(name), element).encode()).digest()).decode()
        for element in ("script", "style")
    ]
    assert answered(app, name).headers["Content-Security-Policy"] == (
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_nothing_from_outside(name: str) -> None:
    """It names no other host; besides comments it has no two slashes at all."""
    assert "//" not in re.sub(r"(^|\s)// .*$", "", source(name), flags=re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_nothing_as_html_or_script(name: str) -> None:
    """What the service says can be text only, and no attribute holds script or style, which the policy would stop."""
    html = source(name)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|eval\(|new Function", html)
    assert not re.search(r"\s(on\w+|style)=\"", html)


@pytest.mark.parametrize("name", PAGES)
def test_a_field_for_a_secret_says_which(name: str) -> None:
    """Password managers and authenticators know it, and nobody else reads it over a shoulder (ASVS 6.2.6, 6.2.7)."""
    fields = re.findall(r"<input [^>]*>", source(name))
    passwords = [field for field in fields if "password" in str(re.findall(r' name="(.*?)"', field))]
    codes = [field for field in fields if ' name="otp_code"' in field]
    assert passwords
    assert codes
    assert [
        each for each in passwords if not re.search(r'type="password" autocomplete="(current|new)-password"', each)
    ] == []
    assert [each for each in codes if 'autocomplete="one-time-code"' not in each] == []
    assert "paste" not in source(name)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_keeps_no_secret(name: str) -> None:
    """No storage but this tab's, and there only when it was sent on."""
    html = source(name)
    assert not re.search(r"localStorage|indexedDB|document\.cookie|caches\.|window\.name", html)
    assert re.findall(r"sessionStorage\.(.*);", html) == (
        ['getItem("sent"))', 'setItem("sent", Date.now())'] if name == "login" else []
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_the_same_in_both_languages(name: str) -> None:
    """The same keys in the same order, with room for the same values."""
    english, chinese = words(name, "en"), words(name, "zh")
    assert list(english) == list(chinese)
    assert [text.count("#") for text in english.values()] == [text.count("#") for text in chinese.values()]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_words_for_all_that_it_says(name: str) -> None:
    """Every key in its elements is there."""
    keys = set(re.findall(r'data-words="(.+?)"', source(name)))
    assert keys
    assert keys <= set(words(name, "en"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_words_for_the_refusals(name: str) -> None:
    """Each reason of the dialect that a person may meet there is told in both languages."""
    wordings = {reason.replace("{.retry_after}", "#") for _, reason in api_auth.REFUSALS.values()} - {"Parameter {}."}
    elsewhere = {"login": {"One-time code is", "Two-step verification"}, "account": {"Account is disabled."}}[name]
    unsaid = tuple(NOT_FOR_PEOPLE | elsewhere)
    assert {reason for reason in wordings if not reason.startswith(unsaid)} <= set(words(name, "zh"))
