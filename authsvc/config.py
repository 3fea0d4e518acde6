"""The settings: environment variables in, one frozen Config out, every problem told at once."""

import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from authsvc import passwords
from authsvc.errors import BadParameter
from authsvc.throttle import Limit, Limits

PREFIX = "AUTHSVC_"
SECRETS = ("DATABASE_URL", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "ADMIN_PASSWORD")
"""Settings that are never shown, and that may come from the file named by `..._FILE` instead."""

DEFAULTS = {
    "DATABASE_URL": "sqlite:///instance/authsvc.db",
    "SECRET_KEY": "",
    "SECRET_KEY_FALLBACKS": "",
    "SESSION_LIFETIME": "43200",
    "SESSION_IDLE_TIMEOUT": "3600",
    "LIMIT_ACCOUNT_ADDRESS": "5/300",
    "LIMIT_ADDRESS": "50/300",
    "LIMIT_ACCOUNT": "100/86400",
    "LIMIT_OTP": "20/86400",
    "TRUSTED_PROXIES": "0",
    "CORS_ORIGINS": "",
    "TIMEZONE": "UTC",
    "ADMIN_PASSWORD": "",
    "HOST": "127.0.0.1",
    "PORT": "8000",
    "WORKERS": "",
    "THREADS": "320",
    "LOG_LEVEL": "INFO",
}
"""Every setting, without its prefix, and what holds where it is absent or empty."""

_ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_LIMITED = ("ACCOUNT_ADDRESS", "ADDRESS", "ACCOUNT", "OTP")  # as in Limits
_SECRET_KEY_MIN = 32
_LONG_LIFETIME = 30 * 86400
_FEW_CHARACTERS = 8
_T = TypeVar("_T")


class ConfigError(Exception):
    """The settings cannot be used; `problems` has one sentence each, none of them quoting a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class RiskyButLegal:
    """A risky but legal setting: a stable id to search for, what is risky, and what to do about it."""

    id: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings, checked. Times are in seconds."""

    database_url: URL = field(repr=False)
    secret_keys: tuple[str, ...] = field(repr=False)
    """Newest first: the first signs, all verify."""
    session_lifetime: int
    session_idle_timeout: int
    """0: sessions end only at their lifetime."""
    limits: Limits
    trusted_proxies: int
    cors_origins: frozenset[str]
    timezone: ZoneInfo
    admin_password: str | None = field(repr=False)
    host: str
    port: int
    workers: int
    threads: int
    log_level: str
    warnings: tuple[RiskyButLegal, ...] = ()


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check all settings. Raises ConfigError with every problem found.

    With SQLite and no secret key set, makes one beside the database, readable by its owner only.
    """
    problems: list[str] = []

    def read(name: str, parse: Callable[[str], _T], fallback: _T) -> _T:
        try:
            return parse(_value(environ, name))
        except ValueError as error:
            problems.append(f"{PREFIX}{name}: {error}")
            return fallback

    url = read("DATABASE_URL", _database_url, URL.create("sqlite"))
    key = read("SECRET_KEY", _secret_key, "")
    fallbacks: tuple[str, ...] = read("SECRET_KEY_FALLBACKS", _secret_keys, ())
    lifetime = read("SESSION_LIFETIME", _integer(1, 10 * 365 * 86400), 1)
    idle_timeout = read("SESSION_IDLE_TIMEOUT", _integer(0, 10 * 365 * 86400), 0)
    limits = Limits(*(read(f"LIMIT_{kind}", _limit, Limit(1, 1)) for kind in _LIMITED))
    trusted_proxies = read("TRUSTED_PROXIES", _integer(0, 16), 0)
    cors_origins: frozenset[str] = read("CORS_ORIGINS", _origins, frozenset())
    timezone = read("TIMEZONE", _timezone, ZoneInfo("UTC"))
    admin_password = read("ADMIN_PASSWORD", _admin_password, None)
    host = read("HOST", _host, "")
    port = read("PORT", _integer(1, 65535), 1)
    workers = read("WORKERS", _workers, 1)
    threads = read("THREADS", _integer(1, 1024), 1)
    log_level = read("LOG_LEVEL", _log_level, "INFO")
    if not key and not problems:
        # Last, so that a start that fails anyway leaves nothing behind.
        key = read("SECRET_KEY", lambda _: _made_key(url), "")
    if problems:
        raise ConfigError(problems)
    config = Config(
        database_url=url,
        secret_keys=(key, *fallbacks),
        session_lifetime=lifetime,
        session_idle_timeout=idle_timeout,
        limits=limits,
        trusted_proxies=trusted_proxies,
        cors_origins=cors_origins,
        timezone=timezone,
        admin_password=admin_password,
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        log_level=log_level,
    )
    return replace(config, warnings=tuple(_warnings(environ, config)))


def _value(environ: Mapping[str, str], name: str) -> str:
    """The text of one setting. An empty variable counts as absent, as container tools pass unset ones on empty."""
    value = environ.get(PREFIX + name, "")
    path = environ.get(f"{PREFIX}{name}_FILE", "") if name in SECRETS else ""
    if value and path:
        raise ValueError(f"is set, and {PREFIX}{name}_FILE too: choose one")
    if path:
        try:
            value = Path(path).read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{PREFIX}{name}_FILE cannot be read: {type(error).__name__}") from None
        if not value:
            raise ValueError(f"{PREFIX}{name}_FILE is empty")
    return value or DEFAULTS[name]


def _database_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("is not a database URL") from None
    if url.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        if "options" in url.query:
            raise ValueError("must not have ?options=, which the service sets itself; ALTER ROLE ... SET does the same")
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if url.database in {None, "", ":memory:"} or url.query or url.host:
        raise ValueError("must name a file, as sqlite:///path or sqlite:////absolute/path")
    return url.set(database=str(Path(str(url.database)).absolute()))


def _secret_key(text: str) -> str:
    if text and len(text) < _SECRET_KEY_MIN:
        raise ValueError(f"is shorter than {_SECRET_KEY_MIN} characters")
    # It is to be a fallback some day, and those are a list.
    if "," in text or text != text.strip():
        raise ValueError("has a comma, or a space at an end")
    return text


def _secret_keys(text: str) -> tuple[str, ...]:
    return tuple(_secret_key(key) for key in _list(text))


def _made_key(url: URL) -> str:
    """The key kept beside the SQLite file, made at the first start."""
    if url.get_backend_name() != "sqlite":
        raise ValueError(f"must be set with PostgreSQL, to {_SECRET_KEY_MIN} random characters or more")
    path = Path(f"{url.database}.key")
    try:
        if not path.exists():
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


def _admin_password(text: str) -> str | None:
    try:
        return passwords.check(text) if text else None
    except BadParameter as refusal:
        raise ValueError(refusal.problem) from None


def _log_level(text: str) -> str:
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return text.upper()


def _warnings(environ: Mapping[str, str], config: Config) -> Iterator[RiskyButLegal]:
    known = {PREFIX + name for name in DEFAULTS} | {f"{PREFIX}{name}_FILE" for name in SECRETS}
    for name in sorted(set(environ) - known):
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_"):
            yield RiskyButLegal("authsvc.W001", f"{name} is not a setting", "check its spelling in the README")
    if any(origin.startswith("http://") for origin in config.cors_origins):
        yield RiskyButLegal("authsvc.W002", "a CORS origin is plain http", "list https origins only")
    if config.session_lifetime > _LONG_LIFETIME or not config.session_idle_timeout:
        yield RiskyButLegal(
            "authsvc.W003", "sessions live long or never idle out", "shorten them (NIST SP 800-63B, 4.2.3)"
        )
    # W004 is told when it happens: a proxy forwards requests and none is trusted.
    if config.host not in {"127.0.0.1", "::1"} and not config.trusted_proxies:
        yield RiskyButLegal(
            "authsvc.W005",
            "listens beyond this machine without a trusted proxy: passwords may travel in the clear",
            "put a proxy with TLS in front and set AUTHSVC_TRUSTED_PROXIES",
        )
    if any(len(set(key)) < _FEW_CHARACTERS for key in config.secret_keys):
        yield RiskyButLegal("authsvc.W006", "a secret key repeats few characters", "make it from random bytes")
