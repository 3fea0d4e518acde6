"""A real nginx with `deploy/nginx-sa-plus.conf` between a console that knows nothing of authsvc and an old backend."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.conftest import servers
from tests.databases import PASSWORD, Databases
from tests.dialects import FORM, Answer
from tests.nginx import ELSEWHERE, Application, Client, Lenient, Nginx, StartNginx, behind, exchange, nginxes
from tests.refusals import BUSY, TOO_LARGE, WRONG_CREDENTIALS
from tests.servers import ROOT, Server, free_port

OTHER_ORIGIN = "https://console.example.com"
"""The one that is a comment in the file."""
LOG_IN_NOW = "您当前暂未登录，是否立即登录？"
TROUBLE = f"失败：{BUSY.message}"


class OldBackend(Application):
    """The old backend: lets every origin in, as it is shipped, and tells what it was asked."""

    def end_headers(self) -> None:
        """Add what it says of other origins."""
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Methods", "POST, GET, OPTIONS, DELETE")
        self.send_header("Access-Control-Allow-Headers", "*")
        self.send_header("Access-Control-Max-Age", "3600")
        super().end_headers()


@dataclass
class SaPlus:
    """The console in a browser: sends what it sends, and shows what it shows."""

    client: Client
    origin: str = ""
    """Where it was loaded from, where that is not nginx."""
    token: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    def log_in(self, key: str, password: str) -> None:
        """The form of its login page."""
        answer = self.send("/AccAdmin/doLogin", {"key": key, "password": password})
        self.token = answer.data["tokenInfo"]["tokenValue"]
        for line in answer.headers.getlist("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value

    def ajax(self, path: str, **parameters: str) -> str | Answer:
        """One of its calls: what it shows, or the answer where it goes on without a word."""
        answer = self.send(path, parameters)
        if self.origin and answer.headers.get("Access-Control-Allow-Origin") != self.origin:
            return "无法连接到服务器，请检查网络"
        if answer.status != HTTPStatus.OK:
            return f"异常：{answer.body.decode()}"
        body = answer.json
        words = {401: LOG_IN_NOW, 403: f"权限不足,{body.get('msg')}", 500: f"失败：{body.get('msg')}"}
        return words.get(body.get("code"), answer)

    def send(self, path: str, parameters: Mapping[str, str]) -> Answer:
        """A form, with a header for the token that is there, and empty, without one."""
        headers = {"Content-Type": FORM, "X-Requested-With": "XMLHttpRequest", "satoken": self.token}
        return self.client.send("POST", path, headers | self._browser("cors"), urlencode(parameters).encode())

    def upload(self, path: str) -> Answer:
        """A file: no header for the token."""
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return self.client.send("POST", path, headers | self._browser("cors"), b"x" * 2_000_000)

    def open(self, path: str) -> Answer:
        """A page in a frame or a window."""
        return self.client.send("GET", path, self._browser("navigate") | {"Accept": "text/html"}, b"")

    def _browser(self, mode: str) -> dict[str, str]:
        if self.origin:
            return {"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": "cross-site", "Origin": self.origin}
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": "same-origin"} | ({"Cookie": cookies} if cookies else {})


# Fixtures


@pytest.fixture(scope="module")
def console_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the console is made of."""
    folder = tmp_path_factory.mktemp("console")
    for name in ("index.html", "login.html", "static/sa.js", "sa-html-sp/sp-admin/admin-list.html", ".git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"登录 {name}", "utf-8")
    return folder


@pytest.fixture(scope="module")
def start_nginx(console_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNginx]:
    """Starts nginx in front of authsvc and the old backend."""
    with nginxes("nginx-sa-plus.conf", tmp_path_factory) as start_with:

        def begin(authsvc: int, old_backend: int) -> Nginx:
            ports = {"authsvc-1:8000": authsvc, "authsvc-2:8000": authsvc, "old-backend:8099": old_backend}
            changes = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
            return start_with({**changes, "/srv/console": str(console_files), "# ": ""})

        yield begin


@pytest.fixture(scope="module")
def old_backend() -> Iterator[int]:
    """Its port."""
    with behind(OldBackend) as backend:
        yield backend.port


@pytest.fixture(scope="module")
def nginx(
    sqlite: Databases, old_backend: int, start_nginx: StartNginx, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nginx]:
    """The shipped configuration in front of a real authsvc."""
    with servers(tmp_path_factory) as begin:
        authsvc: Server = begin(sqlite.copy(), AUTHSVC_TRUSTED_PROXIES="1", AUTHSVC_CORS_ORIGINS=OTHER_ORIGIN)
        yield start_nginx(authsvc.port, old_backend)


@pytest.fixture
def client(nginx: Nginx) -> Client:
    """Somebody elsewhere."""
    return nginx.at(ELSEWHERE)


@pytest.fixture
def console(client: Client) -> SaPlus:
    """The console, as nginx serves it."""
    return SaPlus(client)


@pytest.fixture(scope="module")
def admin(nginx: Nginx) -> SaPlus:
    """The console of an administrator who is logged in; one for all, because nginx limits logins."""
    console = SaPlus(nginx.at(ELSEWHERE))
    console.log_in("admin", PASSWORD)
    return console


@pytest.fixture(scope="module")
def echo(start_nginx: StartNginx, old_backend: int) -> Iterator[Client]:
    """Somebody in front of an nginx with the stand-in of authsvc."""
    with behind(Lenient) as authsvc:
        yield start_nginx(authsvc.port, old_backend).at(ELSEWHERE)


# The console


@pytest.mark.parametrize("path", ["/", "/index.html", "/login.html", "/static/sa.js"])
def test_its_files_are_for_everybody(path: str, client: Client) -> None:
    """As text in UTF-8, in frames of its own alone, and never an old one after a change."""
    answer = client.get(path)
    assert (answer.status, answer.body.decode()) == (200, f"登录 {path.removeprefix('/') or 'index.html'}")
    assert answer.headers["Content-Type"].endswith("charset=utf-8")
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize("path", ["/.git/config", "/%2egit/config", "/static/../.git/config"])
def test_what_else_lies_there_is_for_nobody(path: str, client: Client) -> None:
    """A folder from a repository has more in it than its pages."""
    assert client.get(path).status == HTTPStatus.NOT_FOUND


def test_it_logs_in_and_out(console: SaPlus) -> None:
    """A form without a token, calls with one, and after doExit the question whether to log in."""
    assert console.ajax("/AccAdmin/getLoginInfo") == LOG_IN_NOW
    assert console.ajax("/AccAdmin/doLogin", key="user", password="wrong-one") == f"失败：{WRONG_CREDENTIALS.message}"
    console.log_in("user", PASSWORD)
    assert isinstance(console.ajax("/AccAdmin/getLoginInfo"), Answer)
    assert isinstance(console.ajax("/AccAdmin/doExit"), Answer)
    assert console.ajax("/AccAdmin/getLoginInfo") == LOG_IN_NOW


def test_its_calls_reach_the_old_backend_with_who_is_calling(console: SaPlus) -> None:
    """As authsvc says, not as the caller does."""
    console.log_in("user", PASSWORD)
    forged = {"satoken": console.token, "Remote-Id": "1", "Remote-User": "admin", "Remote-Role": "admin"}
    told = console.client.send("POST", "/goods/getList?pageNo=1", forged, b"a=b").json
    assert told["path"] == "/goods/getList?pageNo=1"
    names = {name: value for name, value in told["headers"].items() if name.startswith("Remote-")}
    assert names == {"Remote-Id": "2", "Remote-User": "user", "Remote-Role": "user"}


def test_a_call_without_a_session_asks_to_log_in(console: SaPlus) -> None:
    """Before the first login, and when the session is over."""
    assert console.ajax("/goods/getList") == LOG_IN_NOW
    console.log_in("user", PASSWORD)
    answer = console.ajax("/goods/getList")
    assert isinstance(answer, Answer)
    console.ajax("/AccAdmin/doExit")
    assert console.ajax("/goods/getList") == LOG_IN_NOW
    assert console.ajax("/admin/getList") == LOG_IN_NOW


@pytest.mark.parametrize("path", ["/upload/image", "/upload/file"])
def test_an_upload_is_let_in_by_the_cookie(path: str, console: SaPlus) -> None:
    """It has no header for the token."""
    assert console.upload(path).json["code"] == 401
    console.log_in("user", PASSWORD)
    told = console.upload(path).json
    assert (told["length"], told["headers"]["Remote-Id"]) == (2_000_000, "2")


def test_a_page_of_the_old_backend_opens_by_the_cookie(console: SaPlus) -> None:
    """A person without a session is sent to the console's own page to log in."""
    answer = console.open("/druid/index.html")
    assert (answer.status, answer.headers["Location"]) == (302, "/login.html")
    console.log_in("user", PASSWORD)
    assert console.open("/druid/index.html").json["headers"]["Remote-Id"] == "2"


# Accounts


@pytest.mark.parametrize(
    "path",
    [
        *(f"/admin/{name}" for name in ("add", "update", "updateInfo", "updateAvatar", "updatePassword", "updateRole")),
        *(f"/admin/{name}" for name in ("updateStatus", "delete", "deleteByIds", "runAs")),
        *(f"/role/{name}" for name in ("add", "update", "delete")),
        "/SpRolePermission/updatePcodeByRid",
        "/admin/add/",
        "/admin/add.json",
        "//admin//add",
        "/x/../admin/add",
        "/x/..%2fadmin/add",
        "/%61dmin/%61dd",
        "/ADMIN/add",
        "/admin;a=b/add",
        "/admin/add;a",
        "/;/admin/add",
        "/admin/getList/../add",
        "/admin/getList;/../add",
        "/admin/getList%3b/..%2fadd",
        "/admin/getList/x",
        "/admin/getList%0aadd",
        "/admin",
    ],
)
def test_what_would_change_accounts_there_is_refused_in_words(path: str, admin: SaPlus) -> None:
    """However it is spelled, and whoever asks."""
    assert admin.ajax(path, id="1") == "权限不足,账号、角色和密码已改由 authsvc 管理，不能在此修改，请联系管理员"
    assert admin.client.get(path, satoken=admin.token).json["code"] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/admin/getList",
        "/admin/getById",
        "/admin/getByCurr",
        "/role/getList",
        "/SpRolePermission/getPcodeByRid",
        "/SpAdminLogin/getList",
        "/administration/add",
    ],
)
def test_what_reads_them_goes_on(path: str, admin: SaPlus) -> None:
    """The lists show what they showed on the evening of the move."""
    answer = admin.ajax(path)
    assert isinstance(answer, Answer)
    assert answer.json["path"] == path


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("/goods/../x//y/%7a", "/x/y/z"),
        ("/goods/%E5%BC%A0%20%3f%23%25?q=/../%2f", "/goods/%E5%BC%A0%20%3F%23%25?q=/../%2f"),
        ("/goods/%252e%252e/admin/add", "/goods/%252e%252e/admin/add"),
    ],
)
def test_the_old_backend_is_asked_what_nginx_looked_at(asked: str, told: str, admin: SaPlus) -> None:
    """The address with nothing left in it to resolve."""
    assert admin.client.get(asked, satoken=admin.token).json["path"] == told


def test_ones_own_password_is_changed_at_authsvc(echo: Client) -> None:
    """The console's own page for it."""
    assert echo.send("POST", "/AdminPassword/update", {}, b"").json["headers"]["Host"]
    assert "Access-Control-Allow-Origin" not in echo.send("POST", "/AdminPassword/update", {}, b"").headers


# Other origins


@pytest.mark.parametrize("path", ["/AccAdmin/doLogin", "/goods/getList", "/admin/add", "/upload/image"])
def test_a_preflight_is_answered_by_nginx(path: str, client: Client) -> None:
    """For a listed origin, and without asking anybody."""
    asked = {"Origin": OTHER_ORIGIN, "Access-Control-Request-Method": "POST"}
    answer = client.send("OPTIONS", path, asked, b"")
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, OTHER_ORIGIN)
    assert "satoken" in answer.headers["Access-Control-Allow-Headers"]
    assert "x-requested-with" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE"
    stranger = client.send("OPTIONS", path, {**asked, "Origin": "https://evil.example"}, b"")
    assert "Access-Control-Allow-Origin" not in stranger.headers


def test_from_a_listed_origin_it_works(client: Client) -> None:
    """Every answer may be read there, refusals and nginx's own, too."""
    console = SaPlus(client, OTHER_ORIGIN)
    assert console.ajax("/goods/getList") == LOG_IN_NOW
    console.log_in("user", PASSWORD)
    assert isinstance(console.ajax("/AccAdmin/getLoginInfo"), Answer)
    answer = console.ajax("/goods/getList")
    assert isinstance(answer, Answer)
    for name in ("Origin", "Credentials"):
        assert len(answer.headers.getlist(f"Access-Control-Allow-{name}")) == 1
    assert "Origin" in answer.headers.getlist("Vary")
    assert client.get("/_verify", Origin=OTHER_ORIGIN).headers["Access-Control-Allow-Origin"] == OTHER_ORIGIN
    assert console.ajax("/admin/add") == "权限不足,账号、角色和密码已改由 authsvc 管理，不能在此修改，请联系管理员"


def test_what_the_old_backend_says_of_other_origins_is_dropped(echo: Client) -> None:
    """It lets all of them in."""
    answer = echo.get("/goods/getList", Cookie="__Host-satoken=a", Origin="https://evil.example", Sec_Fetch_Site="none")
    assert answer.json["path"] == "/goods/getList"
    assert not [name for name in answer.headers.keys() if name.startswith("Access-Control-")]  # noqa: SIM118


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://a.example"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": OTHER_ORIGIN}, True),
        ({}, True),
        ({"Origin": "https://a.example"}, True),
        ({"Origin": "https://b.example"}, False),
        ({"Origin": "http://a.example"}, False),
        ({"Origin": "https://a.example.evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_neighbours_page_cannot_ask_in_somebodys_name(
    method: str, headers: Mapping[str, str], trusted: bool, echo: Client
) -> None:
    """The cookie counts only where this server's own pages, a listed origin's or a person ask."""
    every = {"Host": "a.example", "Cookie": "x=1; __Host-satoken=a; y=2", **headers}
    answer = echo.send(method, "/goods/delete?id=1", every, b"").json
    assert (answer.get("path") if trusted else answer["code"]) == ("/goods/delete?id=1" if trusted else 401)


# What fails


def test_nothing_gets_through_unasked(start_nginx: StartNginx, old_backend: int) -> None:
    """Where authsvc is away, everything is busy, in the console's words and a person's."""
    console = SaPlus(start_nginx(free_port(), old_backend).at(ELSEWHERE), token="any")
    for path in ("/goods/getList", "/admin/getList", "/AccAdmin/getLoginInfo", "/AccAdmin/doLogin"):
        assert console.ajax(path) == TROUBLE
    answer = console.open("/druid/index.html")
    assert (answer.status, answer.headers["Retry-After"], answer.body.decode()) == (503, "5", f"{BUSY.message}\n")


def test_an_old_backend_that_is_away_is_told_in_words(start_nginx: StartNginx) -> None:
    """Not as a page of nginx's."""
    with behind(Lenient) as authsvc:
        console = SaPlus(start_nginx(authsvc.port, free_port()).at(ELSEWHERE), cookies={"__Host-satoken": "a"})
        assert console.ajax("/goods/getList") == TROUBLE


def test_too_many_logins_from_one_address_are_held_back(echo: Client) -> None:
    """What goes beyond the burst is told that the system is busy."""
    with closing(echo.open()) as connection:
        answers = [exchange(connection, "POST", "/AccAdmin/doLogin", {}) for _ in range(60)]
    assert {answer.status for answer in answers} == {HTTPStatus.OK}
    assert BUSY.message in {answer.json.get("msg") for answer in answers}


def test_what_is_too_long_is_told_in_words(console: SaPlus) -> None:
    """Of parameters and of files."""
    assert console.ajax("/AccAdmin/doLogin", key="x" * 20_000) == f"失败：{TOO_LARGE.message}"
    head = "POST /upload/file HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n"
    answer = console.client.say(head.encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert "文件过大".encode() in answer


@pytest.mark.parametrize(
    "request_",
    [
        "GET /_verify HTTP/1.1\r\nHost: a\r\n",
        "GET /_own/moved HTTP/1.1\r\nHost: a\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\n",
        "POST /admin/add HTTP/1.1\r\nHost: a\r\n",
        "POST /goods/getList HTTP/1.1\r\nHost: a\r\n",
        "GET /druid/ HTTP/1.1\r\nHost: evil.example\r\nAccept: text/html\r\n",
    ],
)
def test_what_nginx_itself_answers_is_safe_to_show(request_: str, client: Client) -> None:
    """Not to be framed by others, guessed at, stored or asked for without TLS."""
    head = client.say(f"{request_}Connection: close\r\n\r\n".encode()).partition(b"\r\n\r\n")[0].decode()
    for header in ("Strict-Transport-Security: max-age=31536000", "X-Content-Type-Options: nosniff"):
        assert head.count(header) == 1
    assert "frame-ancestors 'self'" in head
    assert "Cache-Control: no-store" in head
    assert "evil" not in head


def test_only_its_replicas_are_told_of_authsvc(client: Client) -> None:
    """Whether it is ready, and its numbers, are not for those out here."""
    assert client.get("/healthz").status == HTTPStatus.OK
    for path in ("/readyz", "/metrics", "/api/auth/verify"):
        assert client.get(path).json["code"] == 401


# Both files


def test_what_both_configurations_do_they_do_in_the_same_words() -> None:
    """Logs, replicas, TLS, and who is taken for a person; the same port and secrets, too."""
    block = re.compile(r"^    ((?:map|upstream|log_format|resolver) \S+ ?\S*).*?[;}]$", re.MULTILINE | re.DOTALL)
    texts = [(ROOT / "deploy" / name).read_text("utf-8") for name in ("nginx-sa-plus.conf", "nginx.conf")]
    ours, other = ({match[1]: match[0] for match in block.finditer(text)} for text in texts)
    shared = ours.keys() & other.keys()
    assert len(shared) >= 8
    assert {name for name in shared if ours[name] != other[name]} == set()
    for start in (
        "listen ",
        "ssl_",
        "limit_req",
        "proxy_set_header X-",
        "proxy_set_header Remote-",
        "proxy_next_upstream",
    ):
        assert (
            len({frozenset(line for line in text.splitlines() if line.strip().startswith(start)) for text in texts})
            == 1
        )
