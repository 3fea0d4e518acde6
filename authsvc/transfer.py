"""Accounts, roles, appCfg and sessions out of a database and into one, as JSON lines (`records.py`)."""

import itertools
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any, BinaryIO, TypeVar

from authsvc import errors, records
from authsvc.administration import DEFAULT_ROLE
from authsvc.events import Event
from authsvc.identifiers import fold
from authsvc.otp import DamagedSeed, Seeds
from authsvc.passwords import Passwords
from authsvc.records import SESSION_FIELDS, Record, SaPlusMd5, Unusable
from authsvc.store.bulk import PAGE
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from authsvc.upkeep import KeyRecord

Tell = Callable[[int, str], None]
"""Hears of a line: its number, and a sentence that goes on from it."""

Progress = Callable[[str, int], None]
"""Hears how many of what are done."""

_BATCH = 200
"""Lines that are looked at together."""

_NEW = {
    **dict.fromkeys(("phone", "avatar", "created_by", "login_at", "login_address", "otp_seed")),
    **dict.fromkeys(("permission", "login_count", "otp_step", "otp_row"), 0),
    "disabled": False,
}
"""What a new account has where its line does not tell."""

_T = TypeVar("_T")
_Row = dict[str, Any]


@dataclass(slots=True)
class Imported:
    """How many of each an import made and changed, or would."""

    roles_made: int = 0
    roles_changed: int = 0
    accounts_made: int = 0
    accounts_changed: int = 0
    sessions: int = 0
    appcfg: int = 0


@dataclass(eq=False, repr=False)
class Transfer:
    """Export and import. Both raise Unavailable."""

    _database: Database
    _passwords: Passwords
    _seeds: Seeds
    _keys: KeyRecord
    _zone: tzinfo
    """Of times without a zone."""
    _clock: Callable[[], float]

    def export(self, *, sessions: bool = False) -> Iterator[str]:
        """The lines that say all there is at one moment, while the service goes on."""
        with self._database.snapshot() as repository:
            codes = {}
            for role in repository.roles():
                codes[role.id] = role.code
                yield records.write("role", asdict(role))
            after = 0
            while accounts := repository.bulk.accounts(after):
                for row in accounts:
                    yield records.write("account", {**row, "role_code": codes[row["role_id"]]})
                after = accounts[-1]["id"]
            if (appcfg := repository.setting("appcfg")) is not None:
                yield records.write_appcfg(appcfg)
            last = b""
            while sessions and (page := repository.bulk.sessions(last)):
                yield from (records.write("session", {**row, "id_hash": row["id_hash"].hex()}) for row in page)
                last = page[-1]["id_hash"]

    def import_lines(self, stream: BinaryIO, *, dry_run: bool, tell: Tell, warn: Tell, progress: Progress) -> Imported:
        """Do what the lines say: all of it, or nothing where one cannot be used. A `dry_run` only looks.

        `tell` hears of each line that cannot be used, `warn` of what is left out of one that can. Raises UnusableLines,
        ChangedMeanwhile, BadParameter where there is no line.
        """
        plan = _Plan(self._database, self._passwords, self._seeds, self._clock(), tell, warn)
        with closing(plan):
            for batch in _batches(records.lines(stream), _BATCH):
                plan.take(batch, self._zone)
                progress("lines", batch[-1][0])
            plan.finish()
            if not dry_run:
                plan.hash(progress)
                # Nothing but statements in it: on SQLite all other writers wait.
                with self._database.write(exclusive=True) as repository:
                    plan.carry_out(repository, self._keys)
        return plan.imported


class _Plan:
    """What an import does, worked out before its transaction, and kept in files: it may be more than memory holds."""

    def __init__(
        self, database: Database, passwords: Passwords, seeds: Seeds, now: float, tell: Tell, warn: Tell
    ) -> None:
        self.imported = Imported()
        self._database = database
        self._passwords = passwords
        self._seeds = seeds
        self._now = now
        self._told: list[tuple[int, Tell, str]] = []
        self._tell_unusable, self._tell_left_out = tell, warn
        self._lines = self._unusable = 0
        self._kept: defaultdict[str, _Kept] = defaultdict(_Kept)
        # As they will be. A role that has no id yet has None.
        self._roles: dict[str, int | None] = {role.code: role.id for role in database.read(Repository.roles)}
        # In which line of this file something is said already.
        self._said: defaultdict[str, dict[object, int]] = defaultdict(dict)
        self._nobody: set[int] = set()
        self._renamed: set[int] = set()

    def close(self) -> None:
        """Give the files back."""
        for kept in self._kept.values():
            kept.close()

    # Read

    def take(self, batch: list[tuple[int, bytes]], zone: tzinfo) -> None:
        """Plan what some lines say."""
        accounts = []
        for number, line in batch:
            with self._telling(number):
                record = records.read(line, zone)
                for problem in record.left_out:
                    self._warn(number, f"{problem}: left out")
                if record.kind == "account":
                    accounts.append((number, record.values))
                else:
                    self._take_other(number, record)
        self._lines += len(batch)
        there = self._look_up([values for _, values in accounts])
        for number, values in accounts:
            with self._telling(number):
                self._take_account(number, values, there)
        self._tell()

    def _tell(self) -> None:
        """Tell what there is to tell, by the lines' numbers."""
        for number, tell, sentence in sorted(self._told, key=lambda told: told[0]):
            tell(number, sentence)
        self._told.clear()

    def _warn(self, number: int, sentence: str) -> None:
        self._told.append((number, self._tell_left_out, sentence))

    @contextmanager
    def _telling(self, number: int) -> Iterator[None]:
        try:
            yield
        except (Unusable, errors.BadParameter) as problem:
            self._unusable += 1
            self._told.append((number, self._tell_unusable, str(problem)))

    def _say(self, number: int, what: str, value: object) -> None:
        """Refuse what an earlier line says already."""
        earlier = self._said[what].setdefault(value, number)
        if earlier != number:
            raise Unusable(f"{what} is that of line {earlier}, too")

    def _take_other(self, number: int, record: Record) -> None:
        if record.kind == "role":
            self._take_role(number, record.values)
        elif record.kind == "session":
            if missing := SESSION_FIELDS - record.values.keys():
                raise Unusable(f"session has no {min(missing)}")
            self._say(number, "session", record.values["id_hash"])
            self._kept["session"].add({"line": number, **record.values})
            self.imported.sessions += 1
        else:
            self._say(number, "appcfg", None)
            self._kept["appcfg"].add(record.values)
            self.imported.appcfg += 1

    def _take_role(self, number: int, values: _Row) -> None:
        ids: dict[int | None, str] = {role_id: code for code, role_id in self._roles.items() if role_id is not None}
        role_id = values.get("id", self._roles.get(values.get("code", "")))
        code = values.get("code", ids.get(role_id))
        if code is None:
            raise Unusable("role has no code")
        self._say(number, "role", code)
        if role_id is not None:
            self._say(number, "role's id", role_id)
        old = ids.get(role_id)
        if code != old and code in self._roles:
            raise Unusable(f"role code {code} is in use by role {self._roles[code]}")
        if old is None and "name" not in values:
            raise Unusable("role has no name")
        if old is not None and code != old:
            if self._database.read(lambda repository: repository.accounts(role_id=role_id, limit=1)):
                raise Unusable(f"role {role_id} is {old} here, and accounts have it")
            del self._roles[old]
        self._roles[code] = role_id
        self._kept["role"].add({"made": old is None, **values, "id": role_id})
        if old is None:
            self.imported.roles_made += 1
        else:
            self.imported.roles_changed += 1

    def _look_up(self, accounts: list[_Row]) -> dict[tuple[str, object], _Row]:
        """The accounts that are there already, by each of their ids, folded names and phones."""
        wanted: dict[str, set[object]] = {"id": set(), "name_key": set(), "phone": set()}
        for values in accounts:
            if "name" in values:
                values["name_key"] = fold(values["name"])
            for column in wanted.keys() & values.keys():
                wanted[column].add(values[column])
        there = {}
        for column, keys in wanted.items():
            for row in self._find(column, keys):
                there.update({(each, row[each]): row for each in wanted})
        return there

    def _take_account(self, number: int, values: _Row, there: dict[tuple[str, object], _Row]) -> None:
        account_id, name_key = values.get("id"), values.get("name_key")
        same_name = there.get(("name_key", name_key))
        if same_name and same_name["id"] in self._renamed:
            same_name = None  # an earlier line sets the name free
        old = there.get(("id", account_id)) if account_id else same_name
        if same_name and same_name is not old:
            raise Unusable(f"name is in use by account {same_name['id']}")
        # Another system's tables point at this id: it must not come to mean somebody else there.
        if old and "sa_plus_md5" in values and name_key not in {None, old["name_key"]}:
            raise Unusable(f"id {account_id} is taken by account {old['name']}")
        if old:
            account_id, name_key = old["id"], name_key or old["name_key"]
        if name_key is None:
            raise Unusable("account has no name")
        self._say(number, "name", name_key)
        if account_id:
            self._say(number, "id", account_id)
        self._check_role(values)
        self._check_phone(number, values, old, there)
        self._check_secrets(number, values, old)
        self._keep_account(number, values | {"name_key": name_key}, old)

    def _check_role(self, values: _Row) -> None:
        code, role_id = values.get("role_code"), values.get("role_id")
        if code is not None and code not in self._roles:
            raise Unusable(f"no role has the code {code}; roles come before accounts")
        if role_id is not None and role_id not in self._roles.values():
            raise Unusable(f"no role has the id {role_id}; roles come before accounts")
        if code is not None and role_id is not None and self._roles[code] != role_id:
            raise Unusable(f"role {code} does not have the id {role_id}")

    def _check_phone(self, number: int, values: _Row, old: _Row | None, there: dict[tuple[str, object], _Row]) -> None:
        if (phone := values.get("phone")) is None:
            return
        owner = there.get(("phone", phone))
        earlier = self._said["phone"].setdefault(phone, number)
        if earlier != number or (owner and owner is not old):
            whose = f"that of line {earlier}, too" if earlier != number else "in use by another account"
            self._warn(number, f"phone is {whose}: left out")
            del values["phone"]

    def _check_secrets(self, number: int, values: _Row, old: _Row | None) -> None:
        if "password_hash" in values and values.get("sa_plus_md5"):
            raise Unusable("account has both password_hash and sa_plus_md5")
        if "password_hash" in values and not (old and old["password_hash"] == values["password_hash"]):
            self._passwords.check_stored(values["password_hash"])
        if not values.get("sa_plus_md5"):
            values.pop("sa_plus_md5", None)
        if not old and not values.keys() & {"password_hash", "sa_plus_md5"}:
            values["password_hash"] = self._passwords.unmatchable()
            self._warn(number, "has no password: nobody can log in before `flask account password`")
        if values.get("otp_seed"):
            try:
                # It is bound to its account's id.
                self._seeds.decrypt(values["otp_seed"], old["id"] if old else values.get("id", 0))
            except DamagedSeed:
                raise Unusable("otp_seed is damaged, or of another account or secret key") from None

    def _keep_account(self, number: int, values: _Row, old: _Row | None) -> None:
        name_key = values["name_key"]
        if (creator := values.get("created_by")) is not None:
            # Its creator may come in a later line.
            self._kept["creator"].add({"line": number, "name_key": name_key, "created_by": creator})
            del values["created_by"]
        if (code_hashes := values.pop("recovery_hashes", None)) is not None and (old or code_hashes):
            self._kept["recovery"].add({"name_key": name_key, "recovery_hashes": code_hashes})
        if md5 := values.get("sa_plus_md5"):
            values["sa_plus_md5"] = asdict(md5)
        if old:
            values.pop("id", None)
            if name_key != old["name_key"]:
                self._renamed.add(old["id"])
                self._kept["renamed"].add({"account_id": old["id"], "new_key": name_key})
            self._kept["changed"].add(values)
            self.imported.accounts_changed += 1
            changed = {"sa_plus_md5"} | {
                each for each in ("password_hash", "otp_seed") if values.get(each) != old[each]
            }
            if changed & values.keys() or values.get("disabled", False) > old["disabled"]:
                self._kept["ended"].add({"account_id": old["id"]})
            return
        if not values.keys() & {"role_code", "role_id"}:
            values["role_code"] = DEFAULT_ROLE
            self._check_role(values)
        self._kept["numbered" if "id" in values else "made"].add(_NEW | {"created_at": self._now} | values)
        self.imported.accounts_made += 1

    def finish(self) -> None:
        """Look at what only the whole file tells. Raises UnusableLines, BadParameter."""
        for rows in self._kept["creator"].batches():
            absent = self._absent({row["created_by"] for row in rows})
            self._nobody |= absent
            for row in rows:
                if row["created_by"] in absent:
                    self._warn(row["line"], f"created_by: no account has the id {row['created_by']}: left out")
        for rows in self._kept["session"].batches():
            absent = self._absent({row["account_id"] for row in rows})
            for row in rows:
                with self._telling(row["line"]):
                    if row["account_id"] in absent:
                        raise Unusable(f"no account has the id {row['account_id']}")
        self._tell()
        if self._unusable:
            raise errors.UnusableLines(self._unusable)
        if not self._lines:
            raise errors.BadParameter("the file", "is empty")

    def _absent(self, ids: set[int]) -> set[int]:
        """Which of these accounts are neither in the file nor there."""
        unsaid = {account_id for account_id in ids if account_id not in self._said["id"]}
        return unsaid - {row["id"] for row in self._find("id", unsaid)}

    def _find(self, column: str, keys: Collection[object]) -> list[_Row]:
        return self._database.read(lambda repository: repository.bulk.find(column, keys)) if keys else []

    # Write

    def hash(self, progress: Progress) -> None:
        """Wrap the sa-plus console's hashes, on all cores: this is what takes long."""
        done = 0
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for kind in ("numbered", "made", "changed"):
                hashed = _Kept()
                for rows in self._kept[kind].batches():
                    foreign = [row for row in rows if "sa_plus_md5" in row]
                    md5s = [SaPlusMd5(**row.pop("sa_plus_md5")) for row in foreign]
                    wrapped = threads.map(lambda md5: self._passwords.wrapped(md5.digest, md5.salt, md5.id), md5s)
                    for row, password_hash in zip(foreign, wrapped, strict=True):
                        row["password_hash"] = password_hash
                    for row in rows:
                        hashed.add(row)
                    if foreign:
                        done += len(foreign)
                        progress("passwords", done)
                self._kept[kind].close()
                self._kept[kind] = hashed

    def carry_out(self, repository: Repository, keys: KeyRecord) -> None:
        """Do all of it. Raises ChangedMeanwhile."""
        bulk = repository.bulk
        self._write_roles(repository)
        self._roles = {role.code: role.id for role in repository.roles()}
        # In the order in which a login locks rows: accounts, then what is theirs. All but the first find accounts by
        # the name that they have from now on.
        self._each("renamed", bulk.rename_accounts)
        self._each("numbered", bulk.add_accounts)
        bulk.number_on()
        self._each("made", bulk.add_accounts)
        self._each("changed", bulk.change_accounts)
        self._each("creator", bulk.change_accounts)
        self._each("recovery", bulk.replace_recovery_codes)
        self._each("ended", bulk.end_sessions)
        self._each("session", bulk.put_sessions)
        if self.imported.sessions:
            # They are taken for ours; a seed under another key was refused.
            keys.note(repository, 0.0)
        for rows in self._kept["appcfg"].batches():
            repository.set_setting("appcfg", rows[0]["value"])
        repository.note(Event.DATA_IMPORTED, **asdict(self.imported))

    def _each(self, kind: str, write: Callable[[list[_Row]], None]) -> None:
        for kept in self._kept[kind].batches():
            rows = [row for row in kept if row.get("created_by") not in self._nobody]
            for row in rows:
                row.pop("line", None)
                if (code := row.pop("role_code", None)) is not None:
                    row["role_id"] = self._roles[code]
            if rows:
                write(rows)

    def _write_roles(self, repository: Repository) -> None:
        for rows in self._kept["role"].batches():
            for row in rows:
                try:
                    _write_role(repository, **row)
                except errors.Conflict:
                    raise errors.ChangedMeanwhile from None


def _write_role(repository: Repository, *, made: bool, permissions: list[str] | None = None, **values: Any) -> None:
    if made:
        role_id = repository.add_role(**{name: value for name, value in values.items() if value is not None})
    else:
        role_id = values.pop("id")
        if values:
            repository.change_role(role_id, **values)
    if permissions is not None:
        held = next(role.permissions for role in repository.roles() if role.id == role_id)
        for permission in sorted({*held} - {*permissions}):
            repository.revoke(role_id, permission)
        for permission in permissions:
            repository.grant(role_id, permission)


class _Kept:
    """Rows in a file that nobody else sees and that goes by itself."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - for as long as the rows are wanted

    def add(self, row: _Row) -> None:
        """Keep one more."""
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def batches(self) -> Iterator[list[_Row]]:
        """All of them, PAGE at a time."""
        self._file.seek(0)
        return _batches(map(json.loads, self._file), PAGE)


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch
