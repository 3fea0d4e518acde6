"""The settings: environment variables in, one frozen Config out, every problem told at once."""

import ipaddress
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import URL

from authsvc import passwords
from authsvc.errors import BadParameter
from authsvc.identifiers import check_name
from authsvc.logs import RiskyButLegal
from authsvc.store.url import parse_url
from authsvc.throttle import Limit, Limits

PREFIX = "AUTHSVC_"

_ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_SECRET_KEY_MIN = 32
_LONG_LIFETIME = 30 * 86400
_FEW_CHARACTERS = 8
_FEW_THREADS = 8
_SECRET_FILE_MAX = 64 * 1024  # bytes
_CONTAINER_SECRETS = "/run/secrets/"
_OTHERS = 0o007


class ConfigError(Exception):
    """The settings cannot be used; `problems` has one sentence each, none of them quoting a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _secret_key(text: str) -> str:
    if text and len(text) < _SECRET_KEY_MIN:
        raise ValueError(f"is shorter than {_SECRET_KEY_MIN} characters")
    # It is to be a fallback some day, and those are a list.
    if "," in text or text != text.strip():
        raise ValueError("has a comma, or a space at an end")
    return text


def _secret_keys(text: str) -> tuple[str, ...]:
    return tuple(_secret_key(key) for key in _list(text))


def _kept_key(url: URL, *, make: bool) -> str:
    """The key kept beside the SQLite file; where there is none, one is made. Raises ValueError, also without `make`."""
    if url.get_backend_name() != "sqlite":
        raise ValueError(f"must be set with PostgreSQL, to {_SECRET_KEY_MIN} random characters or more")
    path = Path(f"{url.database}.key")
    try:
        if not path.exists():
            if not make:
                raise ValueError(
                    "is neither set nor beside the database: `python wsgi.py` makes both at its first start"
                )
            _make_key(path)
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be kept beside the database: {type(error).__name__}") from None
    if not key:
        raise ValueError("is empty in the file beside the database")
    return _secret_key(key)


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written whole elsewhere (with mode 0600), then linked: who starts at the same moment sees all of it or nothing,
    # and of two that were made one stays.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent) as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # int() alone would take "+5", "1_000" and full-width digits.
        if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _limit(text: str) -> Limit:
    count, slash, window = text.partition("/")
    try:
        return Limit(_integer(1, 10**6)(count), _integer(1, 366 * 86400)(window if slash else ""))
    except ValueError:
        raise ValueError("must be count/seconds, such as 5/300") from None


def _workers(text: str) -> int:
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _integer(1, 256)(text)


def _list(text: str) -> list[str]:
    return [item for item in (part.strip() for part in text.split(",")) if item]


def _origins(text: str) -> frozenset[str]:
    origins = frozenset(origin.lower() for origin in _list(text))
    if not all(map(_ORIGIN.fullmatch, origins)):
        raise ValueError("must list origins such as https://console.example, without a path")
    return origins


def _host(text: str) -> str:
    try:
        return "127.0.0.1" if text == "localhost" else str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("must be an IP address to listen on, such as 127.0.0.1 or 0.0.0.0") from None


def _timezone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise ValueError("is not a time zone this machine knows, such as Asia/Shanghai") from None


def _switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError("must be on or off")
    return text == "on"


def _log_level(text: str) -> str:
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return text.upper()


def _setting(default: str, parse: Callable[[str], object], *, secret: bool = False) -> Any:
    """A field of Config that is read from the environment variable of its name.

    `default` is what an absent or empty variable is read as. A secret is never shown, and may come from the file that
    `..._FILE` names instead.
    """
    return field(repr=not secret, metadata={"default": default, "parse": parse, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings, checked. Times are in seconds. Without its prefix, a variable is named as its field."""

    database_url: URL = _setting("sqlite:///instance/authsvc.db", parse_url, secret=True)
    database_connections: int = _setting("8", _integer(1, 1000))
    """The most that a worker opens."""
    secret_key: str = _setting("", _secret_key, secret=True)
    secret_key_fallbacks: tuple[str, ...] = _setting("", _secret_keys, secret=True)
    session_lifetime: int = _setting("43200", _integer(1, 10 * 365 * 86400))
    session_idle_timeout: int = _setting("3600", _integer(0, 10 * 365 * 86400))
    """0: sessions end only at their lifetime."""
    limit_account_address: Limit = _setting("5/300", _limit)
    limit_address: Limit = _setting("50/300", _limit)
    limit_account: Limit = _setting("100/86400", _limit)
    limit_otp: Limit = _setting("20/86400", _limit)
    limit_otp_row: int = _setting("100", _integer(0, 10**6))
    """Wrong one-time codes in a row after which none is taken any more; 0: no such limit."""
    password_min: int = _setting("8", _integer(passwords.LENGTH_MIN, passwords.LENGTH_MAX))
    trusted_proxies: int = _setting("0", _integer(0, 16))
    cors_origins: frozenset[str] = _setting("", _origins)
    trail_days: int = _setting("90", _integer(1, 3660))
    timezone: ZoneInfo = _setting("UTC", _timezone)
    admin_password: str | None = _setting("", lambda text: text or None, secret=True)
    admin_name: str = _setting("admin", check_name)
    host: str = _setting("127.0.0.1", _host)
    port: int = _setting("8000", _integer(1, 65535))
    workers: int = _setting("", _workers)
    threads: int = _setting("640", _integer(1, 1024))
    metrics: bool = _setting("off", _switch)
    log_level: str = _setting("INFO", _log_level)
    warnings: tuple[RiskyButLegal, ...] = ()

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """Newest first: the first signs, all verify."""
        return (self.secret_key, *self.secret_key_fallbacks)

    @property
    def limits(self) -> Limits:
        """The limits of wrong guesses."""
        return Limits(**{each.name: getattr(self, f"limit_{each.name}") for each in fields(Limits)})

    # How a process's threads are shared out: waiting logins and slow bodies leave some to session checks.

    @property
    def body_threads(self) -> int:
        """How many bodies may be read at a time."""
        return max(1, self.threads * 2 // 5)

    @property
    def hash_threads(self) -> int:
        """How many logins may wait for their hash."""
        return max(1, self.threads - self.body_threads - min(32, self.threads // 4))


_SETTINGS = {each.name.upper(): each for each in fields(Config) if each.metadata}
DEFAULTS: dict[str, str] = {name: each.metadata["default"] for name, each in _SETTINGS.items()}
"""Every setting, without its prefix, and what holds where it is absent or empty."""

SECRETS = frozenset(name for name, each in _SETTINGS.items() if each.metadata["secret"])
"""Settings that are never shown, and that may come from the file named by `..._FILE` instead."""


def load(environ: Mapping[str, str] = os.environ, *, make_key: bool = True) -> Config:
    """Read and check all settings. Raises ConfigError with every problem found.

    With SQLite and no secret key set, the key is the one kept beside the database. Where there is none yet, it is made,
    readable by its owner only; with `make_key` False, that there is none is a problem.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}

    def read(name: str, parse: Callable[[str], object]) -> None:
        try:
            values[name.lower()] = parse(_value(environ, name))
        except (ValueError, BadParameter) as error:
            problems.append(f"{PREFIX}{name}: {getattr(error, 'problem', error)}")

    for name, each in _SETTINGS.items():
        read(name, each.metadata["parse"])
    if {"admin_password", "password_min", "admin_name"} <= values.keys():
        password, minimum, name = values["admin_password"], values["password_min"], values["admin_name"]
        read("ADMIN_PASSWORD", lambda _: password and passwords.check_new(password, minimum=minimum, about=[name]))
    url = values.get("database_url")
    # Made last, so that a start that fails anyway leaves nothing behind; that it must be set is told with the rest.
    if url and values.get("secret_key") == "" and (not problems or url.get_backend_name() != "sqlite"):
        read("SECRET_KEY", lambda _: _kept_key(url, make=make_key))
    if problems:
        raise ConfigError(problems)
    config = Config(**values)
    return replace(config, warnings=tuple(_warnings(environ, config)))


def _value(environ: Mapping[str, str], name: str) -> str:
    """The text of one setting. An empty variable counts as absent, as container tools pass unset ones on empty."""
    value = environ.get(PREFIX + name, "")
    path = environ.get(f"{PREFIX}{name}_FILE", "") if name in SECRETS else ""
    if value and path:
        raise ValueError(f"is set, and {PREFIX}{name}_FILE too: choose one")
    if path:
        value = _contents(path, f"{PREFIX}{name}_FILE")
        if not value:
            raise ValueError(f"{PREFIX}{name}_FILE is empty")
    return value or DEFAULTS[name]


def _contents(path: str, name: str) -> str:
    try:
        status = Path(path).stat()
        # A pipe may never be written, a device never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SECRET_FILE_MAX:
            raise ValueError(f"{name} cannot be read: it is no file, or longer than {_SECRET_FILE_MAX} bytes")
        return Path(path).read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} cannot be read: {type(error).__name__}") from None


def _warnings(environ: Mapping[str, str], config: Config) -> Iterator[RiskyButLegal]:
    known = {PREFIX + name for name in DEFAULTS} | {f"{PREFIX}{name}_FILE" for name in SECRETS}
    for name in sorted(set(environ) - known):
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_"):
            yield RiskyButLegal("authsvc.W001", f"{name} is not a setting", "check its spelling in the README")
    for name, path in _secret_files(environ, config):
        if _is_everybodys(path):
            yield RiskyButLegal("authsvc.W009", f"{name} is in a file that everybody here can use", "chmod 600")
    found = {
        "authsvc.W002": any(origin.startswith("http://") for origin in config.cors_origins),
        "authsvc.W003": config.session_lifetime > _LONG_LIFETIME or not config.session_idle_timeout,
        # W004 is told when it happens: a proxy forwards requests and none is trusted.
        "authsvc.W005": config.host not in {"127.0.0.1", "::1"} and not config.trusted_proxies,
        "authsvc.W006": any(len(set(key)) < _FEW_CHARACTERS for key in config.secret_keys),
        "authsvc.W007": config.threads < _FEW_THREADS,
        "authsvc.W008": not (
            _is_local(config.database_url) or config.database_url.query.get("sslmode") == "verify-full"
        ),
    }
    yield from (RiskyButLegal(name, *_RISKS[name]) for name, is_there in found.items() if is_there)


_RISKS = {
    "authsvc.W002": ("a CORS origin is plain http", "list https origins only"),
    "authsvc.W003": ("sessions live long or never idle out", "shorten them (NIST SP 800-63B, 4.2.3)"),
    "authsvc.W005": (
        "listens beyond this machine without a trusted proxy: passwords may travel in the clear",
        "put a proxy with TLS in front and set AUTHSVC_TRUSTED_PROXIES",
    ),
    "authsvc.W006": ("a secret key repeats few characters", "make it from random bytes"),
    "authsvc.W007": ("so few threads that waiting logins leave none to session checks", "set AUTHSVC_THREADS higher"),
    "authsvc.W008": (
        "PostgreSQL is reached over a network, and whoever answers is believed to be it",
        "add ?sslmode=verify-full&sslrootcert=... to AUTHSVC_DATABASE_URL",
    ),
}
"""What is risky, and what to do about it."""


def _is_everybodys(path: Path) -> bool:
    try:
        # In a folder of its owner's alone nobody else gets to it.
        return bool(path.stat().st_mode & _OTHERS and path.absolute().parent.stat().st_mode & _OTHERS)
    except OSError:
        return False  # it is not there, or not to be looked at: whoever wants to read it will tell


def _is_local(url: URL) -> bool:
    # A SQLite file has no host; libpq takes several, and a socket's directory for one.
    hosts = url.query.get("host", url.host or "")
    listed = ",".join([hosts] if isinstance(hosts, str) else hosts).split(",")
    each = [host if host.count(":") > 1 else host.partition(":")[0] for host in listed]  # with a port, or IPv6
    return all(not host or host.startswith(("/", "127.")) or host in {"localhost", "::1"} for host in each)


def _secret_files(environ: Mapping[str, str], config: Config) -> Iterator[tuple[str, Path]]:
    # In a container everybody is the service, and an orchestrator's files are as readable as it makes them.
    for name in sorted(SECRETS):
        path = environ.get(f"{PREFIX}{name}_FILE", "")
        if path and not path.startswith(_CONTAINER_SECRETS):
            yield f"{PREFIX}{name}", Path(path)
    if config.database_url.get_backend_name() == "sqlite":
        yield f"{PREFIX}SECRET_KEY", Path(f"{config.database_url.database}.key")
