"""The launcher's commands. `make` calls them; `make help` says what they are for."""

import asyncio
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console

from dossier_common.topology import PARTS
from dossier_local.environment import API_DIR
from dossier_local.stack import forget, running
from dossier_local.state import LauncherError, State

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Runs Dossier on this machine, with its own PostgreSQL and NATS.",
)
console = Console(highlight=False)


def say(line: str) -> None:
    """One line for the person at the terminal."""
    console.print(line, markup=False, soft_wrap=True)


@app.command()
def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is ready, and let it run")] = False,
    bare: Annotated[bool, typer.Option("--bare", help="Without the demo organisation")] = False,
) -> None:
    """Starts all parts and the demo organisation, and stays until Ctrl-C."""
    if detach:
        _detached(bare=bare)
        return

    async def stay() -> int:
        organisation = None if bare else _module("organisation")
        begun = time.monotonic()
        async with running(State.chosen(), say) as stack:
            told = await organisation.ensure(stack) if organisation else {}
            stack.write_demo(told)
            for line in stack.supervisor.lines():
                say(line)
            say(f"Dossier is ready after {time.monotonic() - begun:.1f} s: {stack.base_url}")
            if organisation:
                organisation.show(stack, told)
            stack.write_ready()
            say("Ctrl-C stops it.")
            await stack.supervisor.until_failure()
        return 0

    raise typer.Exit(until_signalled(stay, interrupted=0))


@app.command()
def demo() -> None:
    """Tells the main job as a story on a fresh stack; ends with 0 when every step went as told."""

    async def tell() -> int:
        story = _module("story")
        async with running(State(State.chosen().folder / "demo"), say, fresh=True) as stack:
            for line in stack.supervisor.lines():
                say(line)
            status: int = await story.run(stack)
            return status

    raise typer.Exit(until_signalled(tell, interrupted=130))


@app.command()
def story(
    at: Annotated[str, typer.Option(help="Address of the gateway, which is its issuer")],
    ca: Annotated[Path, typer.Option(help="CA (PEM) of the gateway's certificate")],
    folder: Annotated[
        Path, typer.Option("--state", help="Folder with ceremony.json and witnesses.json; keeps the rest")
    ],
    psql: Annotated[
        str, typer.Option(help="How the story's superuser reaches the database: a command that takes psql's arguments")
    ],
) -> None:
    """Tells the demo's story on a stack that runs elsewhere, with nothing in it yet.

    ceremony.json is what `dossier ceremony --json` printed there, held for the officers of the demo; witnesses.json
    names the one witness of its audit log. Ends with 0 when every step went as told.
    """
    from dossier_local.elsewhere import Elsewhere  # noqa: PLC0415  # most commands know no other stack

    stack = Elsewhere(State(folder), at.rstrip("/"), ca.resolve(), psql, say)
    stack.prepare()

    async def tell() -> int:
        status: int = await _module("story").run(stack)
        return status

    raise typer.Exit(until_signalled(tell, interrupted=130))


@app.command()
def token(account: Annotated[str, typer.Argument(help="Account or client of demo.json")]) -> None:
    """Prints an access token of a demo account, by the real code+PKCE flow."""
    print(_module("sign_in").token(State.chosen(), account))


@app.command()
def status() -> None:
    """Says whether Dossier runs from this folder, and where."""
    state = State.chosen()
    if state.holder() is None:
        raise LauncherError(f"Nothing runs from {state.folder}.")
    ready = state.ready()
    say(f"Dossier runs from {state.folder} (process {ready['pid']}): {ready['base_url']}")
    for part in PARTS:
        say(f"{part:<11}http://127.0.0.1:{ready['ports'][part]}")


@app.command()
def down() -> None:
    """Stops what runs from this folder, and returns when it has ended."""
    state = State.chosen()
    launcher = state.holder()
    if launcher is None:
        say(f"Nothing runs from {state.folder}.")
        return
    os.kill(launcher, signal.SIGTERM)
    until = time.monotonic() + 90
    while state.holder() == launcher:
        if time.monotonic() > until:
            raise LauncherError(f"Process {launcher} has not ended after 90 s.")
        time.sleep(0.05)


@app.command()
def clean() -> None:
    """Removes all data of this folder, those of the demo included. Refused while Dossier runs from it."""
    chosen = State.chosen()
    there = [state for state in (State(chosen.folder / "demo"), chosen) if state.folder.exists()]
    with ExitStack() as locks:
        for state in there:
            locks.enter_context(state.lock())
        for state in there:
            forget(state)


@app.command()
def openapi(
    *, check: Annotated[bool, typer.Option("--check", help="Only compare; 1 when a file is old")] = False
) -> None:
    """Writes the OpenAPI file of each part to docs/api, from what its endpoints declare."""
    documents = importlib.import_module("dossier_common.openapi")
    if not check:
        API_DIR.mkdir(parents=True, exist_ok=True)
        documents.write(API_DIR)
        return
    old = documents.differing(API_DIR)
    if old:
        raise LauncherError(f"docs/api is not what the endpoints declare ({', '.join(old)}): run `make openapi`.")


@app.command()
def tables(
    *, check: Annotated[bool, typer.Option("--check", help="Only compare; 1 when a table is old")] = False
) -> None:
    """Writes what docs/ has from the code: settings, problems, faults of spreadsheet rows, the access matrix."""
    reference = importlib.import_module("dossier_local.reference")
    if not check:
        reference.write()
        return
    old = reference.differing()
    if old:
        raise LauncherError(f"Tables of docs/ are not what the code says ({', '.join(old)}): run `make openapi`.")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def env(
    part: Annotated[str, typer.Argument(help="Part whose environment it gets")],
    command: Annotated[list[str], typer.Argument(help="Command with its arguments")],
    *,
    migrator: Annotated[bool, typer.Option("--migrator", help="With the migrator's address and password too")] = False,
) -> None:
    """Runs an operator's command with the environment of a part of the running stack."""
    from dossier_local import migrations  # noqa: PLC0415  # most commands need no server
    from dossier_local.environment import of_running  # noqa: PLC0415  # nor where one runs

    if part not in PARTS:
        raise LauncherError(f"There is no part {part}. There are: {', '.join(PARTS)}.")
    environment = of_running(State.chosen())
    variables = environment.of(part) | (migrations.environment(environment.postgres, part) if migrator else {})
    try:
        os.execvpe(command[0], command, variables)  # noqa: S606  # the operator's own command
    except OSError as error:
        raise LauncherError(f"{command[0]} cannot be run: {error.strerror}.") from error


@app.command("check-migrations")
def check_migrations() -> None:
    """Migrates empty databases and checks that the models of no part ask for another migration (alembic check)."""
    from dossier_local import cluster  # noqa: PLC0415  # most commands need no server
    from dossier_local.migrations import Action, Migrations, migrated  # noqa: PLC0415  # nor migrations

    with cluster.temporary() as servers, Migrations(servers.state, Action.CHECK) as migrations:
        migrations.run(servers.postgres)
    say(f"Migrations and models agree: {', '.join(migrated())}")


def _module(name: str) -> ModuleType:
    """A module of the launcher that only some commands need. Raises LauncherError when it is not there."""
    full = f"dossier_local.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        raise LauncherError(f"This checkout has no {full}; `up --bare` starts the parts alone.") from error


def until_signalled(main: Callable[[], Coroutine[Any, Any, int]], *, interrupted: int) -> int:
    """Runs until it ends or a signal asks it to; then everything it had started has ended too."""

    async def run() -> int:
        task = asyncio.ensure_future(main())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return interrupted

    return asyncio.run(run())


def _detached(*, bare: bool) -> None:
    from dossier_local.launched import launch  # noqa: PLC0415  # only this command starts another launcher

    state = State.chosen()
    launcher = launch(state, bare=bare, bound=False)
    say((state.logs / "launcher.log").read_text().rstrip())
    launcher.returncode = 0  # it is meant to outlive this process


def run() -> None:
    """Runs a command; what the person at the terminal has to know is said in one sentence, with status 1."""
    try:
        app(prog_name="python -m dossier_local")
    except LauncherError as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
