"""The settings."""

import os
import stat
import zoneinfo
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authsvc.config import DEFAULTS, SECRETS, Config, ConfigError, load

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "hunter2-very-secret"
POSTGRESQL = f"postgresql://authsvc:{SECRET}@db.example/authsvc"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Config]:
    """Reads settings given without their prefix; the database is a file of this test's own."""

    def read(**settings: str) -> Config:
        environ = {"DATABASE_URL": f"sqlite:///{tmp_path}/authsvc.db", **settings}
        return load({f"AUTHSVC_{name}": value for name, value in environ.items()})

    return read


@pytest.fixture
def problems(read: Callable[..., Config]) -> Callable[..., list[str]]:
    """Reads settings that cannot be used; returns what is told about them."""

    def problems(**settings: str) -> list[str]:
        with pytest.raises(ConfigError) as error:
            read(**settings)
        return error.value.problems

    return problems


def test_every_setting_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be set: the service then runs on SQLite in `instance/`, on this machine only."""
    monkeypatch.chdir(tmp_path)
    config = load({})
    assert config.database_url.database == f"{tmp_path}/instance/authsvc.db"
    assert (config.session_lifetime, config.session_idle_timeout) == (43200, 3600)
    assert (config.trusted_proxies, config.cors_origins, config.admin_password) == (0, frozenset(), None)
    assert (config.host, config.port, config.log_level, str(config.timezone)) == ("127.0.0.1", 8000, "INFO", "UTC")
    assert (config.admin_name, config.metrics) == ("admin", False)
    assert config.workers >= 1
    assert config.warnings == ()


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_empty_variable_counts_as_absent(name: str, read: Callable[..., Config]) -> None:
    """Container tools pass unset variables on as empty ones."""
    assert read(SECRET_KEY=KEY, **({} if name == "SECRET_KEY" else {name: ""}))


def test_settings_are_taken_over(read: Callable[..., Config]) -> None:
    """Each variable arrives in its field, typed."""
    config = read(
        DATABASE_URL=POSTGRESQL,
        SECRET_KEY=KEY,
        SECRET_KEY_FALLBACKS=f"{KEY[::-1]}, {KEY.upper()},",
        SESSION_LIFETIME="600",
        SESSION_IDLE_TIMEOUT="60",
        TRUSTED_PROXIES="2",
        CORS_ORIGINS="https://Console.example, http://localhost:8080",
        TIMEZONE="Asia/Shanghai",
        ADMIN_PASSWORD=SECRET,
        ADMIN_NAME="Erika",
        METRICS="on",
        HOST="0.0.0.0",
        PORT="80",
        WORKERS="3",
        THREADS="4",
        LIMIT_OTP_ROW="0",
        PASSWORD_MIN="15",
        LOG_LEVEL="debug",
    )
    assert (config.database_url.drivername, config.database_url.password) == ("postgresql+psycopg", SECRET)
    assert config.secret_keys == (KEY, KEY[::-1], KEY.upper())
    assert (config.session_lifetime, config.session_idle_timeout, config.trusted_proxies) == (600, 60, 2)
    assert config.cors_origins == {"https://console.example", "http://localhost:8080"}
    assert (str(config.timezone), config.admin_password) == ("Asia/Shanghai", SECRET)
    assert (config.admin_name, config.metrics) == ("Erika", True)
    assert (config.host, config.port, config.workers, config.threads) == ("0.0.0.0", 80, 3, 4)
    assert (config.log_level, config.limit_otp_row, config.password_min) == ("DEBUG", 0, 15)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_urls_are_taken_as_people_have_them(scheme: str, read: Callable[..., Config]) -> None:
    """Every usual scheme leads to the same driver."""
    config = read(DATABASE_URL=f"{scheme}://authsvc@db.example/authsvc", SECRET_KEY=KEY)
    assert config.database_url.drivername == "postgresql+psycopg"


WHOLE_NUMBERS = {
    "SESSION_LIFETIME": "from 1 to 315360000",
    "SESSION_IDLE_TIMEOUT": "from 0 to 315360000",
    "TRUSTED_PROXIES": "from 0 to 16",
    "PORT": "from 1 to 65535",
    "WORKERS": "from 1 to 256",
    "THREADS": "from 1 to 1024",
    "LIMIT_OTP_ROW": "from 0 to 1000000",
    "PASSWORD_MIN": "from 8 to 256",
}
NOT_A_FILE = "must name a file, as sqlite:///path or sqlite:////absolute/path"
NO_ORIGIN = "must list origins such as https://console.example, without a path"
NO_ZONE = "is not a time zone this machine knows, such as Asia/Shanghai"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *(
            (name, value, f"must be a whole number {bounds}")
            for name, bounds in WHOLE_NUMBERS.items()
            for value in ("-1", "+5", "1_0", " 7", "7 ", "1.0", "0x1", "٧", "７", "²", "x", "9" * 5000, "400000000")
        ),
        *((name, "0", f"must be a whole number {WHOLE_NUMBERS[name]}") for name in ("SESSION_LIFETIME", "PORT")),
        ("PASSWORD_MIN", "7", f"must be a whole number {WHOLE_NUMBERS['PASSWORD_MIN']}"),
        ("DATABASE_URL", "authsvc.db", "is not a database URL"),
        ("DATABASE_URL", "postgresql://db.example:port/authsvc", "is not a database URL"),
        ("DATABASE_URL", f"mysql://root:{SECRET}@db.example/authsvc", "must begin with sqlite:/// or postgresql://"),
        ("DATABASE_URL", f"postgresql+asyncpg://:{SECRET}@db/a", "must begin with sqlite:/// or postgresql://"),
        ("DATABASE_URL", "sqlite://", NOT_A_FILE),
        ("DATABASE_URL", "sqlite:///:memory:", NOT_A_FILE),
        ("DATABASE_URL", "sqlite:///authsvc.db?mode=ro", NOT_A_FILE),
        ("DATABASE_URL", "sqlite://host/authsvc.db", NOT_A_FILE),
        ("SECRET_KEY", KEY[1:], "is shorter than 32 characters"),
        ("SECRET_KEY_FALLBACKS", f"{KEY},{SECRET}", "is shorter than 32 characters"),
        ("CORS_ORIGINS", "*", NO_ORIGIN),
        ("CORS_ORIGINS", "null", NO_ORIGIN),
        ("CORS_ORIGINS", "console.example", NO_ORIGIN),
        ("CORS_ORIGINS", "https://", NO_ORIGIN),
        ("CORS_ORIGINS", "https://console.example/", NO_ORIGIN),
        ("CORS_ORIGINS", "https://console.example/app", NO_ORIGIN),
        ("CORS_ORIGINS", "https://*.example", NO_ORIGIN),
        ("CORS_ORIGINS", "https://user@console.example", NO_ORIGIN),
        ("CORS_ORIGINS", "https://console.example:port", NO_ORIGIN),
        ("CORS_ORIGINS", "https://[console", NO_ORIGIN),
        ("CORS_ORIGINS", "ftp://console.example", NO_ORIGIN),
        ("TIMEZONE", "Nowhere/Nothing", NO_ZONE),
        ("TIMEZONE", "../../etc/passwd", NO_ZONE),
        ("TIMEZONE", "/etc/localtime", NO_ZONE),
        ("TIMEZONE", "Asia", NO_ZONE),
        ("ADMIN_PASSWORD", "short", "must have 8 to 256 characters"),
        (
            "ADMIN_PASSWORD",
            "admin2026",
            "is little more than the account's name or phone, or a word of this service",
        ),
        ("ADMIN_NAME", "12345", "is all digits"),
        ("ADMIN_NAME", "x" * 65, "must have 1 to 64 characters"),
        ("ADMIN_NAME", " admin", "begins or ends with a space"),
        ("METRICS", "yes", "must be on or off"),
        ("ADMIN_PASSWORD", "iloveyou", "is one of the most common passwords"),
        ("LOG_LEVEL", "LOUD", "must be DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        *((f"{name}_FILE", "/nonexistent", None) for name in sorted(SECRETS)),
    ],
)
def test_a_bad_value_is_told_in_one_sentence(
    name: str, value: str, problem: str | None, problems: Callable[..., list[str]]
) -> None:
    """What cannot be used is refused before anything starts, by name and with the reason."""
    settings = {name: value} if name in {"SECRET_KEY", "SECRET_KEY_FILE"} else {"SECRET_KEY": KEY, name: value}
    if name == "DATABASE_URL_FILE":
        settings["DATABASE_URL"] = ""
    told = f"{name.removesuffix('_FILE')}: {problem or f'AUTHSVC_{name} cannot be read: FileNotFoundError'}"
    assert problems(**settings) == [f"AUTHSVC_{told}"]


def test_the_first_password_is_not_the_first_name(problems: Callable[..., list[str]]) -> None:
    """Whatever the administrator is called, a guesser begins with that."""
    (problem,) = problems(SECRET_KEY=KEY, ADMIN_NAME="Erika", ADMIN_PASSWORD="erika2026")
    assert problem.startswith("AUTHSVC_ADMIN_PASSWORD: is little more than the account's name")


def test_all_problems_are_told_at_once(problems: Callable[..., list[str]]) -> None:
    """Who starts a service wants to repair its settings in one go."""
    bad = {
        "DATABASE_URL": "x",
        "SECRET_KEY": "x",
        "SECRET_KEY_FALLBACKS": "x",
        "SESSION_LIFETIME": "x",
        "SESSION_IDLE_TIMEOUT": "x",
        "LIMIT_OTP_ROW": "x",
        "TRUSTED_PROXIES": "x",
        "CORS_ORIGINS": "x",
        "TIMEZONE": "x",
        "PORT": "x",
        "WORKERS": "x",
        "THREADS": "x",
        "LOG_LEVEL": "x",
        "ADMIN_PASSWORD": "x",  # last, as another setting tells how long it must be
    }
    assert [problem.partition(":")[0] for problem in problems(**bad)] == [f"AUTHSVC_{name}" for name in bad]


def test_postgresql_needs_a_key(problems: Callable[..., list[str]]) -> None:
    """Replicas share their key, so none is made up for them."""
    assert problems(DATABASE_URL=POSTGRESQL) == [
        "AUTHSVC_SECRET_KEY: must be set with PostgreSQL, to 32 random characters or more"
    ]


def test_a_key_that_postgresql_lacks_is_told_with_the_rest(problems: Callable[..., list[str]]) -> None:
    """All problems are told at once, also what no single setting tells."""
    told = problems(DATABASE_URL=POSTGRESQL, PORT="x")
    assert [problem.partition(":")[0] for problem in told] == ["AUTHSVC_PORT", "AUTHSVC_SECRET_KEY"]


def test_a_start_that_fails_anyway_makes_no_key(problems: Callable[..., list[str]], tmp_path: Path) -> None:
    """It leaves nothing behind."""
    assert len(problems(PORT="x")) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_no_problem_quotes_a_secret(name: str, problems: Callable[..., list[str]]) -> None:
    """What is wrong with a secret is told without it."""
    told = "\n".join(problems(**{"SECRET_KEY": KEY, name: f"s:{SECRET}\0"[:20], "PORT": "x"}))
    assert "hunter2" not in told


def test_secrets_are_not_shown_with_the_settings(read: Callable[..., Config]) -> None:
    """A Config that ends up in a log or a traceback gives nothing away."""
    config = read(DATABASE_URL=POSTGRESQL, SECRET_KEY=KEY, SECRET_KEY_FALLBACKS=KEY[::-1], ADMIN_PASSWORD=SECRET)
    assert not [secret for secret in (SECRET, KEY, KEY[::-1]) if secret in repr(config)]


# Secrets from files


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_each_secret_may_come_from_a_file(ending: str, tmp_path: Path, read: Callable[..., Config]) -> None:
    """`..._FILE` names a file that holds the secret, with or without a line break at its end."""
    values = {
        "DATABASE_URL": POSTGRESQL,
        "SECRET_KEY": KEY,
        "SECRET_KEY_FALLBACKS": KEY[::-1],
        "ADMIN_PASSWORD": f" {SECRET} ",
    }
    assert set(values) == set(SECRETS)
    for name, value in values.items():
        (tmp_path / name).write_bytes((value + ending).encode())
    config = read(DATABASE_URL="", **{f"{name}_FILE": str(tmp_path / name) for name in values})
    assert config.database_url.password == SECRET
    assert (config.secret_keys, config.admin_password) == ((KEY, KEY[::-1]), f" {SECRET} ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"\xff" * 40, "cannot be read: UnicodeDecodeError")],
)
def test_a_bad_secret_file_is_told(
    content: bytes, problem: str, tmp_path: Path, problems: Callable[..., list[str]]
) -> None:
    """A file that holds no secret is a problem, not an absent setting."""
    (tmp_path / "key").write_bytes(content)
    told = problems(SECRET_KEY_FILE=str(tmp_path / "key"))
    assert told == [f"AUTHSVC_SECRET_KEY: AUTHSVC_SECRET_KEY_FILE {problem}"]


def test_a_secret_is_given_once(tmp_path: Path, problems: Callable[..., list[str]]) -> None:
    """Nobody has to guess whether the variable or the file wins."""
    told = problems(SECRET_KEY=KEY, SECRET_KEY_FILE=str(tmp_path / "key"))
    assert told == ["AUTHSVC_SECRET_KEY: is set, and AUTHSVC_SECRET_KEY_FILE too: choose one"]


# The key made beside a SQLite file


def test_a_key_is_made_once_and_kept(tmp_path: Path, read: Callable[..., Config]) -> None:
    """With SQLite the service makes its key at its first start and finds it again at the next."""
    made = read().secret_keys
    assert read().secret_keys == made
    assert len(made[0]) >= 32
    assert [path.name for path in tmp_path.iterdir()] == ["authsvc.db.key"]


def test_the_made_key_is_its_owners_alone(tmp_path: Path, read: Callable[..., Config]) -> None:
    """Nobody else on the machine can read it."""
    read()
    assert stat.S_IMODE((tmp_path / "authsvc.db.key").stat().st_mode) == 0o600


def test_starters_at_the_same_moment_share_one_key(read: Callable[..., Config]) -> None:
    """Of two keys made at once one stays, and everybody uses it."""
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: read().secret_keys, range(16)))) == 1


def test_a_failed_start_leaves_no_key_behind(tmp_path: Path, problems: Callable[..., list[str]]) -> None:
    """The key is made last."""
    problems(PORT="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "is empty in the file beside the database"), (KEY[1:], "is shorter than 32 characters")],
)
def test_a_spoilt_made_key_is_told(
    content: str, problem: str, tmp_path: Path, problems: Callable[..., list[str]]
) -> None:
    """A key file that was emptied or cut is refused: signing with it would be no secret."""
    (tmp_path / "authsvc.db.key").write_text(content)
    assert problems() == [f"AUTHSVC_SECRET_KEY: {problem}"]


def test_a_key_that_cannot_be_kept_is_told(tmp_path: Path, problems: Callable[..., list[str]]) -> None:
    """Without a place for it there is no start: a new key at each would end all sessions."""
    (tmp_path / "file").touch()
    told = problems(DATABASE_URL=f"sqlite:///{tmp_path}/file/authsvc.db")
    assert told == ["AUTHSVC_SECRET_KEY: cannot be kept beside the database: FileExistsError"]


# Risky but legal


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"SESION_LIFETIME": "60"}, ["authsvc.W001"]),
        ({"PORT_FILE": "/run/port"}, ["authsvc.W001"]),
        ({"TEST_DATABASE_URL": "postgresql://db"}, []),
        ({"CORS_ORIGINS": "http://console.example"}, ["authsvc.W002"]),
        ({"CORS_ORIGINS": "https://console.example"}, []),
        ({"SESSION_IDLE_TIMEOUT": "0"}, ["authsvc.W003"]),
        ({"SESSION_LIFETIME": "2592001"}, ["authsvc.W003"]),
        ({"SESSION_LIFETIME": "2592000"}, []),
    ],
)
def test_risky_settings_are_warned_about(
    settings: dict[str, str], warned: list[str], read: Callable[..., Config]
) -> None:
    """What is legal but seldom meant is told under a stable id."""
    assert [warning.id for warning in read(**settings).warnings] == warned


# Time zones


@pytest.fixture
def machine_without_time_zones() -> Iterator[None]:
    """A machine whose system brings no time zone database, as small container images and Windows."""
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("machine_without_time_zones")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_time_zones_come_with_the_service(zone: str, read: Callable[..., Config]) -> None:
    """What requirements.txt installs is enough, whatever the system lacks."""
    assert str(read(TIMEZONE=zone).timezone) == zone


# Files that are none, and files that everybody can read


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes to."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_pipe_is_no_secret_file(name: str, pipe: Path, problems: Callable[..., list[str]]) -> None:
    """It may never be written: the start would wait for ever."""
    told = problems(**({"DATABASE_URL": ""} if name == "DATABASE_URL" else {}), **{f"{name}_FILE": str(pipe)})
    assert told == [
        f"AUTHSVC_{name}: AUTHSVC_{name}_FILE cannot be read: it is no file, or longer than 65536 bytes",
    ]


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_what_is_no_file_is_no_secret_file(path: str, problems: Callable[..., list[str]]) -> None:
    """Some devices never end, and would take all memory: none is read."""
    (told,) = problems(SECRET_KEY_FILE=path)
    assert told.startswith("AUTHSVC_SECRET_KEY: AUTHSVC_SECRET_KEY_FILE cannot be read: it is no file")


def test_a_secret_file_has_its_length(tmp_path: Path, read: Callable[..., Config]) -> None:
    """Of 64 KiB, beyond which it is not read at all."""
    file = tmp_path / "key"
    file.write_text("k" * 65536)
    assert read(SECRET_KEY_FILE=str(file)).secret_key == "k" * 65536
    with file.open("a") as more:
        more.write("k")
    with pytest.raises(ConfigError, match="longer than 65536 bytes"):
        read(SECRET_KEY_FILE=str(file))


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, []), (0o640, []), (0o604, ["authsvc.W009"]), (0o602, ["authsvc.W009"])]
)
def test_a_secret_that_everybody_can_use_is_warned_about(
    mode: int, warned: list[str], tmp_path: Path, read: Callable[..., Config]
) -> None:
    """A file that was named, and the key made beside the database."""
    tmp_path.chmod(0o755)  # in a folder of one's own nobody else gets to a file
    file = tmp_path / "given"
    file.write_text(SECRET + KEY)
    file.chmod(mode)
    given = read(SECRET_KEY_FILE=str(file))
    assert [warning.id for warning in given.warnings] == warned
    read()
    (tmp_path / "authsvc.db.key").chmod(mode)
    made = read()
    assert [warning.id for warning in made.warnings] == warned
    assert SECRET not in str(given.warnings) + str(made.warnings)


@pytest.mark.parametrize("folder", ["x" * 300, "a/" * 3000], ids=["long name", "long path"])
def test_a_file_that_cannot_be_looked_at_is_not_warned_about(folder: str, read: Callable[..., Config]) -> None:
    """That is for whoever wants to read it: the database that cannot be there says so itself."""
    assert read(DATABASE_URL=f"sqlite:////{folder}/authsvc.db", SECRET_KEY=KEY).warnings == ()


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql://a@db.example/x", True),
        ("postgresql://a@192.0.2.1/x", True),
        ("postgresql://a@db.example/x?sslmode=require", True),
        ("postgresql://a@db.example/x?sslmode=verify-ca", True),
        ("postgresql://a@db.example/x?sslmode=verify-full", False),
        ("postgresql://a@localhost/x", False),
        ("postgresql://a@127.0.0.1:5433/x", False),
        ("postgresql://a@[::1]/x", False),
        ("postgresql:///x", False),
        ("postgresql:///x?host=/var/run/postgresql", False),
        ("postgresql:///x?host=/var/run/postgresql&host=db.example", True),
        ("postgresql:///x?host=db.example:5432", True),
        ("postgresql:///x?host=/var/run/postgresql,db.example", True),
        ("postgresql:///x?host=localhost:5432,127.0.0.1", False),
        ("postgresql://a@[::ffff:192.0.2.1]/x", True),
    ],
)
def test_a_database_over_a_network_should_prove_itself(url: str, warned: bool, read: Callable[..., Config]) -> None:
    """Or whoever answers gets the password hashes."""
    warnings = [warning.id for warning in read(DATABASE_URL=url, SECRET_KEY=KEY).warnings]
    assert warnings == (["authsvc.W008"] if warned else [])


@pytest.mark.parametrize(("threads", "warned"), [("7", ["authsvc.W007"]), ("8", [])])
def test_few_threads_are_warned_about(threads: str, warned: list[str], read: Callable[..., Config]) -> None:
    """Waiting logins would leave none to session checks."""
    assert [warning.id for warning in read(THREADS=threads).warnings] == warned


# What came with codes in a row and the least length


def test_the_newer_settings_are_taken_over(read: Callable[..., Config]) -> None:
    """With their defaults, and with other values."""
    assert (read().password_min, read().limit_otp_row, read().limits.otp_row) == (8, 100, 100)
    config = read(PASSWORD_MIN="15", LIMIT_OTP_ROW="0")
    assert (config.password_min, config.limit_otp_row, config.limits.otp_row) == (15, 0, 0)


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        *[("PASSWORD_MIN", value, "8 to 256") for value in ("7", "257", "0", "-8", "８", "x", "8.0")],
        *[("LIMIT_OTP_ROW", value, "0 to 1000000") for value in ("-1", "1000001", "1/2", "+5")],
    ],
)
def test_the_newer_settings_have_their_limits(
    name: str, value: str, range_: str, problems: Callable[..., list[str]]
) -> None:
    """Eight characters are the least that may be the least."""
    assert problems(**{name: value}) == [f"AUTHSVC_{name}: must be a whole number from {range_}"]


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("fourteen chars", "must have 15 to 256 characters"),
        ("satoken-authsvc-1", "is little more than the account's name or phone, or a word of this service"),
        ("admin-admin-2026", "is little more than the account's name or phone, or a word of this service"),
    ],
)
def test_the_first_administrators_password_is_a_new_one(
    password: str, problem: str, problems: Callable[..., list[str]]
) -> None:
    """Held to the same length, and to the same words; the problem does not quote it."""
    told = problems(ADMIN_PASSWORD=password, PASSWORD_MIN="15")
    assert told == [f"AUTHSVC_ADMIN_PASSWORD: {problem}"]
