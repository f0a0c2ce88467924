"""The `dossier` command of operators: the steps that need no running part."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import nats.errors
import typer

from dossier_cli import accounts, streams

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Operates a deployment of Dossier.")


@app.callback()
def dossier() -> None:
    """Operates a deployment of Dossier."""


@app.command("streams")
def make_streams(
    nats_url: Annotated[str, typer.Option(envvar="DOSSIER_NATS_URL", help="Address of the NATS server")],
    password_file: Annotated[
        Path, typer.Option(envvar="DOSSIER_NATS_OPERATOR_PASSWORD_FILE", help="Password of the user `operator`")
    ],
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream in a NATS cluster")] = 1,
) -> None:
    """Makes the streams of the producers and the consumers of their followers; can be repeated."""
    try:
        made = asyncio.run(streams.run(nats_url, password_file.read_text().strip(), replicas=replicas))
    except (nats.errors.Error, OSError) as error:
        typer.echo(f"dossier streams: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"made: {', '.join((*made.streams, *made.consumers))}" if made else "everything is there")


@app.command("nats-accounts")
def nats_accounts(
    passwords: Annotated[Path, typer.Argument(help="Folder of the files `nats-<user>`: password or bcrypt")],
    target: Annotated[Path, typer.Argument(help="File to write, mode 0600: accounts.conf beside nats-server.conf")],
) -> None:
    """Writes the NATS users with exactly the permissions that the topology gives them."""
    try:
        known = {user: (passwords / f"nats-{user}").read_text().strip() for user in accounts.USERS}
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(accounts.configuration(known))
    except OSError as error:
        typer.echo(f"dossier nats-accounts: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
