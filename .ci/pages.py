"""`/login` and `/account` in Chromium: every state that a person can meet, on three screens, light and dark."""

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pyotp
from gateway import Gateway
from webdriver import Browser

AXE = "axe-core@4.14.1"
"""Finds what keeps people with disabilities out, by the rules of WCAG 2.2 and its own."""
SCREENS = {"phone": (360, 740), "desk": (1280, 900), "wall": (3840, 2160)}
LANGUAGES = {"en": "en-GB", "zh-Hans": "zh-CN"}
OVERFLOWING = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
SETTLED = "return document.getAnimations().every(({effect}) => effect.getTiming().iterations > 1)"
AXE_RUN = """
  const {violations} = await axe.run(document, {resultTypes: ["violations"]});
  return violations.map(({id, nodes}) => id + ": " + nodes.map(node => node.html + node.failureSummary).join(" | "));
"""
ENTER, TAB, ESCAPE = "\ue007", "\ue004", "\ue00c"
NAME, PASSWORD, NEW_PASSWORD = "admin", "correct-horse-battery", "staple-correct-horse"
IMPATIENT = "const slowly = setTimeout; setTimeout = (act, time) => slowly(act, time === 20000 ? 2000 : time)"
"""The pages' patience, which is longer than a trial's, ends after two seconds."""

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1"
QR = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 4'>"
    "<path d='M0 0h2v1h1v1h1v2H2V3H1V2H0z'/></svg>"
)
KEY = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
CODES = [f"ab{number}c-de2f-ghi3-jklm-nop4-qrs5" for number in "2345672345"]

OURS = [
    *("/", "/app", "/app?a=1&b=%20x&rd=/y", "/%E4%BD%A0", "/a//b", "/app/../b", "/%09/evil.example"),
    "/ /evil.example x",  # the browser writes %20 for what is typed as a space
]
"""Paths of this origin, and so followed as they are."""
EVIL = [
    *("//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "\\/evil.example", "/a\\b"),
    *("/\t/evil.example", "/\n/evil.example", "/\r\n/evil.example", "\t//evil.example", "https://evil.example"),
    *("https:evil.example", "http:/evil.example", "javascript:alert(1)", "data:text/html,x", "evil.example"),
    *(
        "@evil.example",
        ".evil.example",
        "%2F%2Fevil.example",
        "%2f/evil.example",
        "／／evil.example",
        "。/evil.example",
    ),
    *("/你好\\", "", " ", "?x", "#x", "/api/auth/logout", "/x/../api/auth/logout", "/AccAdmin/doExit", "/API/auth/"),
    "/%61pi/auth/login?username=a&password=b",
]
"""What leads to no page of this origin. `/api/auth/...` would log people in or out."""


class Trial:
    """A person with a browser, who writes down what is wrong."""

    def __init__(self, page: Browser, gateway: Gateway, axe: str, shots: Path | None) -> None:
        self.page, self.gateway = page, gateway
        self.problems: list[str] = []
        self._axe, self._shots = axe, shots
        self.language = ""

    def speak(self, language: str) -> None:
        """Prefer a language from now on."""
        self.language = language
        agent = self.page.run("return navigator.userAgent")
        self.page.devtools("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=LANGUAGES[language])

    def open(self, path: str) -> None:
        """Go to a path of the service's origin, as nobody who has been here before."""
        self.page.open(f"{self.gateway.origin}/healthz")
        self.page.run("sessionStorage.clear()")
        self.page.open(self.gateway.origin + path)

    def forget(self) -> None:
        """Have no cookie any more."""
        self.page.devtools("Network.clearBrowserCookies")

    def log_in(self, path: str = "/login") -> None:
        """Be logged in, and on the way to where `path` leads."""
        self.forget()
        self.open(path)
        self.type(NAME + TAB + PASSWORD + ENTER)

    def type(self, text: str) -> None:
        """Press keys once the page is ready for them."""
        self.wait("the page is there", "return document.activeElement !== document.body")
        self.page.type(text)

    def wait(self, what: str, script: str) -> None:
        """Wait until a script's answer is yes; raise AssertionError where it does not come."""
        deadline = time.monotonic() + 10
        while not self.page.run(script):
            seen = self.page.run("return location.href + ' ' + document.body.innerText")
            assert time.monotonic() < deadline, f"not so: {what}, but: {seen!r}"
            time.sleep(0.02)

    def says(self, node: str, key: str) -> None:
        """Wait until an element says what the page's words have for `key`."""
        node, key = json.dumps(node), json.dumps(key)
        self.wait(f"{node} says {key}", f"return document.getElementById({node}).textContent === words({key})")

    def focus(self, node: str) -> None:
        """Wait until the cursor is in an element."""
        self.wait(f"the cursor is at #{node}", f"return document.activeElement.id === '{node}'")

    def at(self, path: str) -> None:
        """Wait until the browser is at a path, query and fragment included."""
        url = json.dumps(self.gateway.origin + path)
        self.wait(f"at {path}", f"return document.readyState === 'complete' && location.href === {url}")

    def expect(self, what: str, fact: object) -> None:
        """Write down what should be so and is not."""
        if not fact:
            self.problems.append(f"{self.language}: not so: {what}")

    def look(self, state: str) -> None:
        """Look at the page as it is on every screen, light and dark, and have it checked."""
        for screen, (width, height) in SCREENS.items():
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"}
            self.page.devtools("Emulation.setDeviceMetricsOverride", **size)
            for scheme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                self.page.devtools("Emulation.setEmulatedMedia", features=features)
                self.wait("it has settled", SETTLED)
                where = f"{self.language}, {state}, {screen}, {scheme}"
                if self._shots:
                    self.page.screenshot(self._shots / (where.replace(", ", "-").replace(" ", "_") + ".png"))
                self.problems += [f"{where}: wider than the screen"] * self.page.run(OVERFLOWING)
                if screen != "wall":
                    self.page.run(self._axe)
                    self.problems += [f"{where}: {found}" for found in self.page.run(AXE_RUN)]
        self.page.devtools("Emulation.clearDeviceMetricsOverride")


def axe(folder: Path) -> str:
    """The source of axe-core, from the npm registry."""
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("axe-core-*.tgz")
    with tarfile.open(archive) as package, package.extractfile("package/axe.min.js") or io.BytesIO() as script:
        return script.read().decode()


def to_log_in(trial: Trial) -> None:
    """The way of somebody who knows everything, with all that may come in between."""
    trial.forget()
    trial.open("/login")
    trial.focus("username")
    trial.expect("language", trial.page.run("return document.documentElement.lang") == trial.language)
    trial.expect("title", trial.page.run("return document.title === words('title')"))
    trial.look("login")
    trial.type(ENTER)
    trial.says("username-error", "is missing.")
    trial.type(f"{NAME}{ENTER}")
    trial.focus("password")
    trial.says("message", "is missing.")
    trial.look("login empty")
    trial.type(f"not it{ENTER}")
    trial.says("message", "Wrong username or password.")
    trial.focus("password")
    trial.expect("marked", trial.page.run("return document.activeElement.getAttribute('aria-invalid') === 'true'"))
    trial.look("login wrong")
    trial.page.run("document.activeElement.dispatchEvent(new KeyboardEvent('keyup', {modifierCapsLock: true}))")
    trial.wait("Caps Lock", "return document.querySelector('.caps').textContent === words('caps')")
    trial.page.click("#password + button")
    trial.expect("shown", trial.page.run("return document.getElementById('password').type === 'text'"))
    trial.look("login shown")
    trial.page.click("#password")
    trial.page.run("document.getElementById('password').select()")
    before = len(trial.gateway.asked)
    trial.type(PASSWORD + ENTER + ENTER)
    trial.at("/account")
    trial.expect("asked once", trial.gateway.asked[before:].count("POST /api/auth/login") == 1)


def to_give_codes(trial: Trial) -> None:
    """Two-step verification."""
    trial.forget()
    trial.open("/login")
    trial.gateway.refuse("/api/auth/login", 403, "One-time code is required.")
    trial.type(NAME + TAB + PASSWORD + ENTER)
    trial.focus("code")
    trial.expect("digits", trial.page.run("return document.activeElement.inputMode === 'numeric'"))
    trial.look("code")
    trial.gateway.refuse("/api/auth/login", 403, "Wrong one-time code.")
    trial.type(f"123 456{ENTER}")
    trial.says("message", "Wrong one-time code.")
    trial.focus("code")
    trial.look("code wrong")
    trial.page.click("#kind")
    trial.focus("code")
    trial.expect("letters", trial.page.run("return document.activeElement.inputMode === 'text'"))
    trial.look("code recovery")
    trial.gateway.refuse("/api/auth/login", 403, "Wrong username or password.")
    trial.type(f"{CODES[0]}{ENTER}")
    trial.focus("password")
    trial.says("message", "Wrong username or password.")
    trial.gateway.pass_on()


def to_be_refused(trial: Trial) -> None:
    """Whatever else a login may meet."""
    trial.forget()
    trial.open("/login")
    trial.gateway.throttle("/api/auth/login", 3)
    trial.type(NAME + TAB + PASSWORD + ENTER)
    trial.wait("it counts", "return document.querySelector('#message [role=timer]')")
    trial.expect("not yet", trial.page.run("return document.querySelector('[type=submit]').ariaDisabled === 'true'"))
    before = len(trial.gateway.asked)
    trial.type(ENTER)
    trial.wait("it counts down", "return /[^0-9]1\\s/.test(document.getElementById('message').textContent)")
    trial.expect("nothing asked meanwhile", trial.gateway.asked[before:] == [])
    trial.says("message", "again")
    trial.gateway.throttle("/api/auth/login", 4271)
    trial.type(ENTER)
    trial.wait("it counts", "return document.querySelector('#message [role=timer]')")
    trial.look("login throttled")
    trial.page.click("#username")
    trial.type("x")
    trial.expect("another name", trial.page.run("return document.getElementById('message').textContent === ''"))
    for status, reason in [
        (403, "Account is disabled."),
        (403, "Request comes from another site."),
        (503, "Service is busy."),
        (503, "Service is unavailable."),
        (500, "Something went wrong."),
        (418, "No words for this are here."),
    ]:
        trial.gateway.refuse("/api/auth/login", status, reason)
        trial.type(ENTER)
        trial.says("message", reason)
    trial.gateway.plain("/api/auth/login", 502, {"Content-Type": "text/html"}, b"<h1>502</h1>")
    trial.type(ENTER)
    trial.says("message", "No answer.")
    trial.look("login no answer")
    trial.gateway.keep_waiting("/api/auth/login")
    trial.gateway.released.clear()
    trial.type(ENTER)
    trial.wait("busy", "return document.getElementById('login').ariaBusy === 'true'")
    trial.look("login busy")
    trial.wait("busy no more", "return !document.getElementById('login').ariaBusy")
    trial.says("message", "No answer.")
    trial.gateway.released.set()
    trial.gateway.pass_on()
    trial.gateway.keep_waiting("/api/auth/verify")
    trial.gateway.released.clear()
    trial.log_in()
    trial.at("/account")
    trial.gateway.released.set()
    trial.gateway.pass_on()


def to_be_sent_on(trial: Trial) -> None:
    """Where people come from, and where nobody leads them."""
    trial.gateway.plain("/app", 200, {"Content-Type": "text/plain"}, b"the application")
    trial.log_in("/login?rd=/app?a=1&rd=//b%20c#there")
    trial.at("/app?a=1&rd=//b%20c#there")
    for path in OURS:
        trial.open(f"/login?rd={path}")
        meant = trial.page.run(f"return new URL({json.dumps(path)}, location).href")
        trial.at(meant.removeprefix(trial.gateway.origin))
    for path in EVIL:
        for spelled in dict.fromkeys([path, trial.page.run(f"return encodeURI({json.dumps(path)})")]):
            trial.open(f"/login?rd={spelled}")
            trial.wait(f"rd={spelled!r} stays", f"return location.origin === '{trial.gateway.origin}'")
            if "%" not in spelled or spelled == path:
                trial.at("/account")
    trial.open("/account")
    trial.at("/account")
    trial.wait("still logged in", "return fetch('/api/auth/verify').then(answer => answer.status === 200)")
    trial.gateway.plain("/closed", 302, {"Location": "/login?rd=/closed"})
    trial.open("/closed")
    trial.focus("continue")
    trial.look("login welcome")
    trial.page.click("#other")
    trial.focus("username")
    trial.open("/login?other&rd=/app")
    trial.type(NAME + TAB + PASSWORD + ENTER)
    trial.at("/app")

    trial.forget()
    trial.open("/login?rd=/app")
    trial.focus("username")
    first = trial.page.switch(trial.page.new_tab())
    trial.log_in("/login?rd=/app")
    trial.at("/app")
    trial.page.switch(first)
    trial.at("/app")
    trial.gateway.pass_on()


def to_be_without(trial: Trial, strict: Trial) -> None:
    """Without cookies and storage; without scripts."""
    strict.speak(trial.language)
    strict.page.open(f"{strict.gateway.origin}/login")
    strict.type(NAME + TAB + PASSWORD + ENTER)
    strict.says("message", "no cookie")
    strict.look("login no cookie")
    trial.forget()
    for path in ("/login", "/account"):
        trial.page.devtools("Emulation.setScriptExecutionDisabled", value=True)
        trial.page.open(trial.gateway.origin + path)
        trial.wait("both languages", "return /JavaScript for[^]*JavaScript：/.test(document.body.innerText)")
        # To be looked at it needs scripts, and with scripts <noscript> is not seen.
        trial.page.devtools("Emulation.setScriptExecutionDisabled", value=False)
        trial.page.run("const node = document.querySelector('noscript'); node.replaceWith(...node.childNodes)")
        trial.look(f"{path[1:]} no script")


def sessions(now: float, *, others: bool) -> list[dict[str, Any]]:
    """Sessions as `/api/auth/sessions` tells them, the present one first."""

    def moment(hours: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + hours * 3600))

    found = [
        ("127.0.0.1", AGENT, 0.0),
        ("2001:db8:1234:5678:9abc:def0:1234:5678", PHONE, -0.7),
        ("203.0.113.7", "", -9.0),
    ]
    return [
        {
            "id": f"{number:032x}",
            "opened": moment(used - 1),
            "last_seen": moment(used),
            "ends": moment(used + 11),
            "address": address,
            "user_agent": agent,
            "current": not number,
        }
        for number, (address, agent, used) in enumerate(found[: 3 if others else 1])
    ]


def to_be_at_home(trial: Trial) -> None:
    """One's own account."""
    api, now = trial.gateway, time.time()
    trial.forget()
    trial.open("/account")
    trial.at("/login?rd=/account")
    api.keep_waiting("/api/auth/sessions")
    api.released.clear()
    trial.log_in("/login?rd=/account")
    trial.at("/account")
    trial.look("account waiting")
    trial.says("why", "No answer.")
    trial.look("account no answer")
    api.released.set()
    api.answer("/api/auth/sessions", 200, {"sessions": sessions(now, others=True)})
    trial.page.click("#again")
    trial.wait("three sessions", "return document.querySelectorAll('.session').length === 3")
    trial.look("account")
    end_sessions(trial, now)
    change_password(trial)
    set_up_two_step(trial)
    leave(trial)


def end_sessions(trial: Trial, now: float) -> None:
    """All others, or one."""
    api = trial.gateway
    trial.page.click("#others")
    trial.focus("confirm-password")
    trial.look("account end others")
    trial.type(ENTER)
    trial.says("confirm-message", "is missing.")
    trial.type(ESCAPE)
    trial.wait("closed", "return !document.getElementById('dialog').open")
    trial.page.click(".session button")
    api.refuse("/api/auth/sessions/end", 403, "Wrong username or password.")
    trial.type(f"not it{ENTER}")
    trial.says("confirm-message", "Wrong username or password.")
    trial.focus("confirm-password")
    trial.look("account end wrong")
    api.answer("/api/auth/sessions/end", 200, {"ended": 1})
    api.answer("/api/auth/sessions", 200, {"sessions": sessions(now, others=False)})
    trial.type(PASSWORD + ENTER)
    trial.wait("one session", "return document.querySelectorAll('.session').length === 1")
    trial.focus("sessions-title")
    trial.look("account ended")


def change_password(trial: Trial) -> None:
    """There and back."""
    trial.page.click("#present")
    trial.type(f"not it{TAB}{TAB}{NEW_PASSWORD}{ENTER}")
    trial.says("present-message", "Wrong username or password.")
    trial.look("account password wrong")
    trial.type(f"{PASSWORD}{TAB}{TAB}short{ENTER}")
    trial.wait("too short", "return /8/.test(document.getElementById('change-message').textContent)")
    trial.focus("new")
    trial.look("account password short")
    trial.type(NEW_PASSWORD + ENTER)
    trial.says("password-note", "changed")
    trial.page.click("#present")
    trial.type(f"{NEW_PASSWORD}{TAB}{TAB}{PASSWORD}{ENTER}")
    trial.wait("emptied", "return !document.getElementById('new').value")


def set_up_two_step(trial: Trial) -> None:
    """Two-step verification, on and off."""
    api = trial.gateway
    begun = {"secret": KEY, "uri": f"otpauth://totp/authsvc:admin?secret={KEY}", "qr": QR}
    api.answer("/api/auth/otp", 200, begun)
    trial.page.click("#begin")
    trial.type(PASSWORD + ENTER)
    trial.focus("enrol-code")
    trial.look("account set up")
    api.refuse("/api/auth/otp/confirm", 403, "Wrong one-time code.")
    trial.type(f"123456{ENTER}")
    trial.says("enrol-message", "Wrong one-time code.")
    api.answer("/api/auth/otp/confirm", 200, {"recovery_codes": CODES})
    account = {"id": 1, "username": NAME, "disabled": False, "role": "admin", "permission": 0, "otp": True}
    api.answer("/api/auth/verify", 200, account)
    trial.type(f"123456{ENTER}")
    trial.focus("recovery-title")
    trial.says("otp-note", "turned on")
    trial.look("account recovery codes")
    trial.page.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    trial.page.click("#copy")
    trial.says("otp-note", "copied")
    trial.expect("copied", trial.page.run("return navigator.clipboard.readText()") == "\n".join(CODES))
    trial.page.click("#kept")
    trial.focus("otp-title")
    trial.expect("gone", CODES[0] not in trial.page.run("return document.documentElement.innerHTML"))
    trial.look("account two-step")
    trial.page.click("#off")
    trial.look("account turn off")
    api.throttle("/api/auth/otp/off", 4271)
    trial.type(f"{PASSWORD}{TAB}{TAB}123456{ENTER}")
    trial.wait("it counts", "return document.querySelector('#confirm-message [role=timer]')")
    trial.look("account throttled")
    trial.type(ESCAPE)
    api.answer("/api/auth/verify", 200, account | {"otp": False})
    api.answer("/api/auth/otp/off", 200)
    trial.page.click("#off")
    trial.type(f"{PASSWORD}{TAB}{TAB}123456{ENTER}")
    trial.says("otp-note", "turned off")
    trial.focus("otp-title")


def leave(trial: Trial) -> None:
    """Sessions that end: by the button, in another tab, and what the back button shows then."""
    api = trial.gateway
    api.pass_on()
    api.answer("/api/auth/sessions", 200, {"sessions": sessions(time.time(), others=False)})
    trial.log_in()
    trial.at("/account")
    trial.page.open(f"{api.origin}/docs")
    trial.page.open(f"{api.origin}/account")
    trial.wait("drawn", "return document.querySelector('.session')")
    api.refuse("/api/auth/logout", 503, "Service is unavailable.")
    trial.page.click("#logout")
    trial.says("logout-message", "Service is unavailable.")
    trial.look("account log out refused")
    api.pass_on()
    api.answer("/api/auth/sessions", 200, {"sessions": sessions(time.time(), others=False)})
    trial.page.click("#logout")
    trial.at("/login")
    trial.page.back()
    trial.at("/docs")
    trial.page.back()
    trial.at("/login?rd=/account")

    trial.log_in()
    trial.at("/account")
    trial.wait("drawn", "return document.querySelector('.session')")
    first = trial.page.switch(trial.page.new_tab())
    trial.page.open(f"{api.origin}/account")
    trial.wait("drawn", "return document.querySelector('.session')")
    trial.page.click("#logout")
    trial.at("/login")
    trial.page.switch(first)
    trial.at("/login?rd=/account")

    trial.log_in()
    trial.at("/account")
    trial.wait("drawn", "return document.querySelector('.session')")
    trial.wait("ended", "return fetch('/api/auth/logout', {method: 'POST'}).then(answer => answer.status === 200)")
    trial.page.click("#present")
    trial.type(f"{PASSWORD}{TAB}{TAB}{NEW_PASSWORD}{ENTER}")
    trial.at("/login?rd=/account")
    trial.focus("username")
    api.pass_on()


def to_use_the_service(trial: Trial) -> None:
    """The same with the service's own answers: sessions, password and two-step verification, there and back."""
    for _ in range(2):
        trial.log_in()
        trial.at("/account")
        trial.forget()
    trial.log_in()
    trial.at("/account")
    drawn = "return document.querySelectorAll('.session').length"
    trial.wait("sessions", f"{drawn} > 2")
    trial.page.click("#others")
    trial.type(PASSWORD + ENTER)
    trial.wait("one session", f"{drawn} === 1")
    trial.page.click("#begin")
    trial.type(PASSWORD + ENTER)
    trial.wait("a QR code", "return document.getElementById('qr').naturalWidth")
    trial.focus("enrol-code")
    key = trial.page.run("return document.getElementById('secret').textContent").replace(" ", "")
    trial.type(pyotp.TOTP(key).now() + ENTER)
    codes = recovery_codes(trial)
    trial.page.click("#logout")
    trial.at("/login")
    trial.type(NAME + TAB + PASSWORD + ENTER)
    trial.focus("code")
    trial.page.click("#kind")
    trial.type(codes[0].upper().replace("-", " ") + ENTER)
    trial.at("/account")
    trial.wait("on", "return document.getElementById('otp-text').textContent === words('otp on')")
    trial.page.click("#renew")
    trial.type(f"{PASSWORD}{TAB}{TAB}{codes[1]}{ENTER}")
    codes = recovery_codes(trial)
    trial.page.click("#present")
    trial.type(f"{PASSWORD}{TAB}{TAB}{NEW_PASSWORD}{TAB}{TAB}{codes[0]}{ENTER}")
    trial.says("password-note", "changed")
    trial.page.click("#off")
    trial.type(f"{NEW_PASSWORD}{TAB}{TAB}{codes[1]}{ENTER}")
    trial.says("otp-note", "turned off")
    trial.page.click("#present")
    trial.type(f"{NEW_PASSWORD}{TAB}{TAB}{PASSWORD}{ENTER}")
    trial.says("password-note", "changed")


def recovery_codes(trial: Trial) -> list[str]:
    """Those that are shown, kept."""
    trial.focus("recovery-title")
    codes: list[str] = trial.page.run(
        "return Array.from(document.querySelectorAll('#codes li'), each => each.textContent)"
    )
    trial.expect("ten codes", len(set(codes)) == len(CODES))
    trial.page.click("#kept")
    trial.focus("otp-title")
    return codes


def problems(trial: Trial, strict: Trial) -> Iterator[str]:
    """All that is wrong; the browser of `strict` keeps no cookie."""
    for each in (trial, strict):
        each.page.devtools("Page.addScriptToEvaluateOnNewDocument", source=IMPATIENT)
    blocked = partial(to_be_without, strict=strict)
    states: list[Callable[[Trial], None]] = [
        to_log_in,
        to_give_codes,
        to_be_refused,
        to_be_sent_on,
        to_be_at_home,
        to_use_the_service,
        blocked,
    ]
    for language, state in product(LANGUAGES, states):
        trial.gateway.pass_on()
        trial.gateway.released.set()
        trial.speak(language)
        try:
            state(trial)
        except (AssertionError, RuntimeError) as error:
            yield f"{language}: {error}"
    yield from trial.problems
    yield from strict.problems
    for page in (trial.page, strict.page):
        # What the network refuses is meant.
        yield from (f"console: {entry['message']}" for entry in page.log("browser") if entry["source"] != "network")
