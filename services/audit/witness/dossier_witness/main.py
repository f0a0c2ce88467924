"""The `dossier-witness` command: makes the key, runs the witness, shows what it has cosigned."""

import json
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dossier_witness.config import Config, ConfigUnusable, read_cosigner, write_key
from dossier_witness.note import Cosigner
from dossier_witness.store import StateUnusable, Store

MAX_CONNECTIONS: Final = 200
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Witnesses transparency logs: cosigns what follows from what it cosigned before, and nothing else.",
)
ConfigFile = Annotated[Path, typer.Option("--config", help="Configuration file (TOML)")]


def _say_version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it so
    if wanted:
        typer.echo(f"dossier-witness {version('dossier-witness')}")
        raise typer.Exit


@app.callback()
def dossier_witness(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end")
    ] = False,
) -> None:
    """Witnesses transparency logs: cosigns what follows from what it cosigned before, and nothing else."""


@app.command()
def keygen(config: ConfigFile) -> None:
    """Makes a new witness: its key, and its empty memory. Prints its vkey. Changes nothing that is there already."""
    with _told():
        wanted = Config.read(config)
        if wanted.key_file.exists():
            raise ConfigUnusable(f"{wanted.key_file} exists already: a new witness needs a new key file and state.")
        key = Ed25519PrivateKey.generate()
        vkey = Cosigner(wanted.name, key).vkey
        Store.create(wanted.state, vkey)
        write_key(wanted.key_file, key)
        typer.echo(vkey)


@app.command()
def run(config: ConfigFile) -> None:
    """Serves until SIGTERM or SIGINT."""
    import uvicorn  # noqa: PLC0415  # the other commands need no server

    from dossier_witness.app import application  # noqa: PLC0415  # likewise
    from dossier_witness.witness import Witness  # noqa: PLC0415  # likewise

    log = _logger()
    with _told():
        wanted = Config.read(config)
        cosigner = read_cosigner(wanted)
        store = Store.open(wanted.state)
        if store.vkey != cosigner.vkey:
            raise StateUnusable(f"{wanted.state} is the memory of another witness: {store.vkey}.")
    # uvicorn stops at a signal and then raises it anew: with this, the state is closed and the status is 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with closing(store):
        witness = Witness(cosigner, wanted.logs, store, lambda: int(time.time()))
        told = {"vkey": cosigner.vkey, "listen": f"{wanted.host}:{wanted.port}", "origins": sorted(wanted.logs)}
        log.info("the witness starts", extra={"told": told})
        uvicorn.run(
            application(witness, store),
            host=wanted.host,
            port=wanted.port,
            loop="asyncio",
            http="h11",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
            lifespan="off",
        )


@app.command()
def show(config: ConfigFile) -> None:
    """Prints the witness's vkey, the last checkpoint of each log, and each fork that was shown to it."""
    with _told():
        wanted = Config.read(config)
        with closing(Store.open(wanted.state)) as store:
            typer.echo(store.vkey)
            cosigned = {each.origin: each for each in store.all()}
            for origin in sorted({*wanted.logs, *cosigned}):
                last = cosigned.get(origin)
                known = "" if origin in wanted.logs else " (no longer configured)"
                typer.echo(f"\n# {origin}{known}: {_when(last.time) if last else 'nothing cosigned yet'}")
                if last:
                    typer.echo(last.note, nl=False)
            for fork in store.forks():
                typer.echo(f"\n# FORK of {fork.origin} at size {fork.size}, shown {_when(fork.time)}; cosigned was")
                typer.echo(fork.cosigned, nl=False)
                typer.echo("\n# and the log signed too")
                typer.echo(fork.other, nl=False)


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def _told() -> Iterator[None]:
    """What an operator has to mend is said in one sentence, with status 1."""
    try:
        yield
    except (ConfigUnusable, StateUnusable) as error:
        typer.echo(f"dossier-witness: {error}", err=True)
        raise typer.Exit(1) from error


class _OneLine(logging.Formatter):
    """Records as JSON lines, with what `told` says beside them."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "told", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _logger() -> logging.Logger:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    log = logging.getLogger("dossier_witness")
    log.setLevel(logging.INFO)
    return log
