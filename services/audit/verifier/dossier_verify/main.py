"""The `dossier-verify` command. Every way to end is an exit code and a sentence, never a traceback."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dossier_verify import commands, given, report
from dossier_verify.errors import Ended, Exit, Wrong
from dossier_verify.findings import Finding
from dossier_verify.kept import KeptCheckpoint
from dossier_verify.source import Folder, Kept, Source, write
from dossier_verify.trust import signed
from dossier_verify.verify import Request, Result, verify
from dossier_verify.web import Token

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Verifies an audit log from outside.\n\n"
        "Exit codes: 0 verified; 1 the log is wrong; 2 bad usage or input; "
        "3 it could not be read, so nothing is known; 4 verified, but it replaces a restored log."
    ),
)

Vkeys = Annotated[list[str], typer.Option("--vkey", help="The log's vkey, or a file of it; may be repeated")]
Witnesses = Annotated[list[str], typer.Option("--witness", help="A witness' vkey, or a file of it; may be repeated")]
Quorum = Annotated[int | None, typer.Option(help="How many of the named witnesses must have cosigned (default: all)")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output")]
TokenFile = Annotated[Path | None, typer.Option(help="A file with the bearer token")]
TokenCommand = Annotated[str, typer.Option(help="A command that prints the token; asked again when it expires")]
Insecure = Annotated[bool, typer.Option("--insecure-http", help="Send the token without TLS to other machines too")]
CaFile = Annotated[Path | None, typer.Option(help="Certificates (PEM) to trust for https in place of the system's")]
WithBodies = Annotated[bool, typer.Option("--bodies", help="The events' bodies too (scope audit:read)")]


@app.callback(invoke_without_command=True)
def dossier_verify(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version")] = False,  # noqa: FBT002  typer's form
) -> None:
    """Verifies an audit log from outside."""
    if show_version:
        try:
            typer.echo(version("dossier-verify"))
        except PackageNotFoundError:
            typer.echo("run from its source, not installed")
        raise typer.Exit


@app.command("log")
def verify_log(
    target: Annotated[str, typer.Argument(metavar="URL|FOLDER", help="The log's URL, or a folder that mirrors it")],
    vkeys: Vkeys,
    checkpoints: Annotated[list[Path], typer.Option("--checkpoint", help="A kept checkpoint; may be repeated")] = [],  # noqa: B006  typer copies it
    witnesses: Witnesses = [],  # noqa: B006
    quorum: Quorum = None,
    against: Annotated[
        Path | None, typer.Option(help="A folder saved earlier, to name the first leaf that differs")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep what is read in this folder")] = None,
    keep: Annotated[Path | None, typer.Option(help="Write the verified checkpoint to this file")] = None,
    token_file: TokenFile = None,
    token_command: TokenCommand = "",
    processes: Annotated[int, typer.Option(min=1, max=256, help="Processes that hash")] = 1,
    *,
    bodies: WithBodies = False,
    as_json: AsJson = False,
    insecure_http: Insecure = False,
    ca_file: CaFile = None,
) -> None:
    """Verifies a whole log: signatures, entries, tiles, root, chains, kept checkpoints, and the logs that follow it."""
    with _guarded(as_json=as_json):
        trust = given.trust(vkeys, witnesses, quorum)
        kept = [KeptCheckpoint(str(path), given.checkpoint(path)) for path in checkpoints]
        old = given.folder(against) if against else None

        async def run(progress: Callable[[int, int], None]) -> Result:
            token = Token(token_file, token_command)
            async with given.source(target, token, insecure=insecure_http, ca_file=ca_file) as source:
                with _pool(processes) as pool:
                    read = Kept(source, Folder(save).generation(source.here())) if save else source
                    return await verify(Request(read, trust, kept, old, bodies, pool, progress))

        with _progress("leaves") as progress:
            result = asyncio.run(run(progress))
        if keep and not result.findings:
            write(keep, result.logs[-1].checkpoint.raw)
        _tell(report.as_json(result) if as_json else report.as_text(result, bodies=bodies))
        raise typer.Exit(result.exit)


@app.command("proof")
def verify_proof(
    file: Annotated[Path, typer.Argument(metavar="PROOF", help="A .tlog-proof file")],
    vkeys: Vkeys,
    event: Annotated[Path | None, typer.Option(help="The JSON of GET /v1/audit/events/{id}")] = None,
    witnesses: Witnesses = [],  # noqa: B006
    quorum: Quorum = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Verifies offline that one event is in the log."""
    with _guarded(as_json=as_json):
        trust = given.trust(vkeys, witnesses, quorum)
        said, found = commands.prove(given.read(file), given.read(event) if event else None, trust)
        _conclude(said, found, as_json=as_json)


@app.command("consistency")
def verify_consistency(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A kept checkpoint")],
    target: Annotated[str, typer.Argument(metavar="URL|FOLDER|NEW", help="The log, or a newer checkpoint of it")],
    vkeys: Vkeys,
    tiles: Annotated[
        str, typer.Option(help="The log (URL or folder) whose tiles prove it, when NEW is a checkpoint")
    ] = "",
    witnesses: Witnesses = [],  # noqa: B006
    quorum: Quorum = None,
    token_file: TokenFile = None,
    token_command: TokenCommand = "",
    *,
    as_json: AsJson = False,
    insecure_http: Insecure = False,
    ca_file: CaFile = None,
) -> None:
    """Verifies that a log only grew since a checkpoint was kept, by a few tiles."""
    with _guarded(as_json=as_json):
        trust, before = given.trust(vkeys, witnesses, quorum), given.checkpoint(old)
        after = None if given.is_address(target) or Path(target).is_dir() else given.checkpoint(Path(target))

        async def run() -> tuple[dict[str, Any], list[Finding]]:
            token, place = Token(token_file, token_command), tiles or ("" if after else target)
            async with _maybe(place, token, insecure=insecure_http, ca_file=ca_file) as source:
                new = after
                if new is None:
                    assert source is not None
                    new = await signed(source, trust)
                found = await commands.compare(before, new, source, trust)
                return {"origin": new.origin, "old_size": before.size, "new_size": new.size}, found

        said, found = asyncio.run(run())
        _conclude(said, found, as_json=as_json)


@app.command("download")
def download(
    target: Annotated[str, typer.Argument(metavar="URL", help="The log's URL")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to mirror it; an earlier mirror is continued")
    ],
    token_file: TokenFile = None,
    token_command: TokenCommand = "",
    *,
    bodies: WithBodies = False,
    as_json: AsJson = False,
    insecure_http: Insecure = False,
    ca_file: CaFile = None,
) -> None:
    """Mirrors a log into a folder, so that all works offline. It verifies nothing: run `log` on the folder."""
    with _guarded(as_json=as_json):

        async def run(progress: Callable[[int, int], None]) -> list[tuple[str, int]]:
            token = Token(token_file, token_command)
            async with given.source(target, token, insecure=insecure_http, ca_file=ca_file) as source:
                return await commands.download(source, folder, with_bodies=bodies, progress=progress)

        with _progress("files") as progress:
            done = asyncio.run(run(progress))
        said = {"exit": 0, "logs": [{"origin": origin, "size": size} for origin, size in done]}
        _tell(said if as_json else [f"{origin}: {size} leaves in {folder}, not verified" for origin, size in done])


def _conclude(said: dict[str, Any], found: list[Finding], *, as_json: bool) -> None:
    code = Exit.WRONG if found else Exit.VERIFIED
    if as_json:
        told = {"verdict": report.VERDICTS[code], "exit": int(code), **said}
        _tell({**told, "findings": [finding.told() for finding in found]})
    else:
        lines = [f"{name}: {value}" for name, value in said.items() if value not in (None, {})]
        _tell([*lines, *report.explained(found), "WRONG" if found else "verified"])
    raise typer.Exit(code)


def _tell(said: dict[str, Any] | list[str]) -> None:
    typer.echo(json.dumps(said, indent=1) if isinstance(said, dict) else "\n".join(map(_printable, said)))


def _printable(text: str) -> str:
    """Without what would steer a terminal: a log's words are not ours."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


@contextmanager
def _guarded(*, as_json: bool) -> Iterator[None]:
    """Whatever ends the command inside becomes one sentence and its exit code."""
    try:
        yield
    except Ended as error:
        code, message, kind = error.code, str(error), error.kind if isinstance(error, Wrong) else ""
    except KeyboardInterrupt:
        code, message, kind = Exit.UNREADABLE, "interrupted, so nothing is known", ""
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # noqa: BLE001  a verifier that fails knows nothing, and must not look like a verdict
        code, message, kind = Exit.UNREADABLE, f"the verifier failed, so nothing is known: {error!r}", ""
    else:
        return
    if as_json:
        _tell(report.ended(code, message, kind))
    else:
        typer.echo(_printable(f"{kind or report.VERDICTS[code]}: {message}"), err=True)
    raise typer.Exit(code)


@contextmanager
def _progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error when that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _pool(processes: int) -> Iterator[Executor | None]:
    if processes == 1:
        yield None
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield pool


@asynccontextmanager
async def _maybe(place: str, token: Token, *, insecure: bool, ca_file: Path | None) -> AsyncIterator[Source | None]:
    if not place:
        yield None
        return
    async with given.source(place, token, insecure=insecure, ca_file=ca_file) as source:
        yield source


if __name__ == "__main__":
    sys.exit(app())
