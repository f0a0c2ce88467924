"""The commands of `dossier`. What each needs is imported when it runs: `--help` and the light ones stay quick."""

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dossier_cli import given
from dossier_cli.errors import Refused
from dossier_cli.parts import KINDS, become
from dossier_common.topology import PARTS

commands = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Runs the parts of Dossier, and the steps of its operators.",
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]


def _known(parts: list[str]) -> list[str]:
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise typer.BadParameter(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    return parts or list(PARTS)


Parts = Annotated[
    list[str] | None, typer.Argument(callback=lambda value: _known(value or []), help="Parts; all when none is named")
]


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False))


def _add_part(part: str) -> None:
    """`dossier <part> web|worker`. The short way to it is in `main`."""
    group = typer.Typer(no_args_is_help=True, help=f"Run a process of {part}.", rich_markup_mode=None)
    commands.add_typer(group, name=part)

    def add(kind: str, doing: str) -> None:
        @group.command(kind, help=f"{doing} until SIGTERM; settings come from the environment.")
        def run() -> None:
            become(part, kind)

    add("web", "Serves HTTP")
    add("worker", "Runs relay, consumers and jobs")


for _part in PARTS:
    _add_part(_part)


@commands.command()
def health(
    part: Annotated[str, typer.Argument(help="Part")], kind: Annotated[str, typer.Argument(help="web or worker")]
) -> None:
    """Asks the process of this container whether it is ready; `dossier-health` is the same, and lighter."""
    from dossier_cli import health as asked  # noqa: PLC0415

    if part not in PARTS or kind not in KINDS:
        raise typer.BadParameter(f"say one of {', '.join(PARTS)}, and web or worker")
    raise typer.Exit(asked.main([part, kind]))


@commands.command()
def roles(
    parts: Parts = None,
    *,
    as_script: Annotated[bool, typer.Option("--print", help="Print the SQL for psql instead")] = False,
    as_json: Json = False,
) -> None:
    """Makes databases and roles of the parts as PostgreSQL's superuser; can be repeated, and sets changed passwords.

    Passwords are in files `postgres-<part>-migrator` and `postgres-<part>-app` of DOSSIER_SECRETS_DIR (default
    /run/secrets). The server is at DOSSIER_POSTGRES_URL, its superuser's password in DOSSIER_POSTGRES_PASSWORD_FILE.
    """
    from dossier_cli import postgres, scram  # noqa: PLC0415
    from dossier_cli import roles as making  # noqa: PLC0415

    folder = Path(os.environ.get("DOSSIER_SECRETS_DIR") or "/run/secrets")

    def password(part: str, role: str) -> str:
        path = folder / f"postgres-{part}-{role}"
        try:
            secret = given.secret(path, "DOSSIER_SECRETS_DIR")
            scram.ensure_plain(secret)
        except ValueError as error:
            raise Refused(f"{path}: {error}") from error
        return secret

    chosen = parts or []
    if as_script:
        typer.echo(making.script(chosen, password), nl=False)
        return
    variable, password_variable = "DOSSIER_POSTGRES_URL", "DOSSIER_POSTGRES_PASSWORD_FILE"
    url = postgres.address(given.variable(variable, "the server: postgresql://postgres@HOST:5432/postgres"), variable)
    superuser = given.secret_of(password_variable, f"the password of {url.username}")

    def connect(database: str | None) -> Any:
        return postgres.connected(url.set(database=database or url.database), superuser, variable, password_variable)

    made = asyncio.run(making.apply(connect, chosen, password))
    if as_json:
        _print_json({"databases": made.databases, "passwords": made.passwords})
        return
    for what, names in (("made", made.databases), ("password set", made.passwords)):
        if names:
            typer.echo(f"{what}: {', '.join(names)}")
    if not made:
        typer.echo("everything is there")


@commands.command()
def migrate(parts: Parts = None, *, as_json: Json = False) -> None:
    """Brings the databases of the parts to this version; can be repeated. Two at once: the second waits.

    Each part's database is at DOSSIER_<PART>_MIGRATOR_URL, its password in DOSSIER_<PART>_MIGRATOR_PASSWORD_FILE.
    """
    from dossier_cli import migrate as migrating  # noqa: PLC0415

    moved = {}
    for part, move in migrating.all_of(parts or []):
        moved[part] = {"from": move.before, "to": move.after}
        if not as_json:
            typer.echo(f"{part:<11}{move}")
    if as_json:
        _print_json(moved)


@commands.command("streams")
def make_streams(
    nats_url: Annotated[str, typer.Option(envvar="DOSSIER_NATS_URL", help="Address of the NATS server")],
    password_file: Annotated[
        Path, typer.Option(envvar="DOSSIER_NATS_OPERATOR_PASSWORD_FILE", help="Password of the user `operator`")
    ],
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream in a NATS cluster")] = 1,
    *,
    as_json: Json = False,
) -> None:
    """Makes the streams of the producers and the consumers of their followers; can be repeated."""
    import nats.errors  # noqa: PLC0415

    from dossier_cli import streams  # noqa: PLC0415

    password = given.secret(password_file, "DOSSIER_NATS_OPERATOR_PASSWORD_FILE")
    try:
        made = asyncio.run(streams.run(nats_url, password, replicas=replicas))
    except (nats.errors.Error, OSError) as error:
        raise Refused(f"NATS at {nats_url}: {error}") from error
    if as_json:
        _print_json({"streams": made.streams, "consumers": made.consumers})
    else:
        typer.echo(f"made: {', '.join((*made.streams, *made.consumers))}" if made else "everything is there")


@commands.command("nats-accounts")
def nats_accounts(
    passwords: Annotated[Path, typer.Argument(help="Folder of the files `nats-<user>`: password or bcrypt")],
    target: Annotated[Path, typer.Argument(help="File to write, mode 0600: accounts.conf beside nats-server.conf")],
) -> None:
    """Writes the NATS users with exactly the permissions that the topology gives them."""
    from dossier_cli import accounts  # noqa: PLC0415

    known = {user: given.secret(passwords / f"nats-{user}", "the first argument") for user in accounts.USERS}
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(accounts.configuration(known))
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}") from error


Folder = Annotated[Path, typer.Argument(help="Folder; made with mode 0700 where it is not there")]


@commands.command()
def secrets(
    folder: Folder,
    issuer: Annotated[
        str | None,
        typer.Option(envvar="DOSSIER_ISSUER", help="Public address of the gateway: audit-log.vkey has it"),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Makes what is missing of all secrets of a deployment, and changes nothing that is there."""
    from dossier_cli import secret_files  # noqa: PLC0415

    if issuer is not None and not issuer.startswith(("https://", "http://")):
        raise typer.BadParameter("the issuer is https://HOST[:PORT]")
    made = secret_files.make(folder, issuer)
    if as_json:
        _print_json({"made": made.names, "faults": made.faults})
    elif made.names:
        typer.echo(f"made: {', '.join(made.names)}")
    elif not made.faults:
        typer.echo("everything is there")
    if made.faults:
        raise Refused("; ".join(made.faults))


@commands.command()
def certificates(
    folder: Folder,
    host: Annotated[list[str] | None, typer.Option(help="Name or address of the gateway; can be repeated")] = None,
    san: Annotated[
        list[str] | None,
        typer.Option(help="Name of every server, {name} being its own: dossier-{name}.prod.svc; can be repeated"),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Makes an internal CA and certificates of all servers and clients; renews those that end within 60 days."""
    from dossier_cli import certificates as making  # noqa: PLC0415
    from dossier_common.clock import SystemClock  # noqa: PLC0415

    done = making.make(folder, host or [], san or [], SystemClock().now())
    if as_json:
        _print_json({"made": done.made, "renewed": done.renewed, "left": done.left})
        return
    for what, names in (("made", done.made), ("renewed", done.renewed), ("of another CA, left as they are", done.left)):
        if names:
            typer.echo(f"{what}: {', '.join(names)}")
    if not (done.made or done.renewed):
        typer.echo("everything is there")
