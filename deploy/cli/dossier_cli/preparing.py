"""Commands that prepare a deployment. What each needs is imported when it runs, so that `--help` stays quick."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dossier_cli import given
from dossier_cli.errors import Refused
from dossier_cli.output import Json, print_json
from dossier_common.topology import PARTS


def add_to(commands: typer.Typer) -> None:
    """Adds what this module has."""
    commands.command()(secrets)
    commands.command()(certificates)
    commands.command()(roles)
    commands.command()(migrate)
    commands.command("streams")(make_streams)
    commands.command("nats-accounts")(nats_accounts)
    commands.command("kubernetes-secrets")(kubernetes_secrets)


def _known(parts: list[str] | None) -> list[str]:
    unknown = [part for part in parts or () if part not in PARTS]
    if unknown:
        raise typer.BadParameter(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    return parts or list(PARTS)


Parts = Annotated[list[str] | None, typer.Argument(callback=_known, help="Parts; all when none is named")]
Folder = Annotated[Path, typer.Argument(help="Folder; made with mode 0700 where it is not there")]


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
    from dossier_cli import postgres, scram
    from dossier_cli import roles as making

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
        print_json({"databases": made.databases, "passwords": made.passwords})
        return
    for what, names in (("made", made.databases), ("password set", made.passwords)):
        if names:
            typer.echo(f"{what}: {', '.join(names)}")
    if not made:
        typer.echo("everything is there")


def migrate(parts: Parts = None, *, as_json: Json = False) -> None:
    """Brings the databases of the parts to this version; can be repeated. Two at once: the second waits.

    Each part's database is at DOSSIER_<PART>_MIGRATOR_URL, its password in DOSSIER_<PART>_MIGRATOR_PASSWORD_FILE.
    """
    from dossier_cli import migrate as migrating

    moved = {}
    for part, move in migrating.all_of(parts or []):
        moved[part] = {"from": move.before, "to": move.after}
        if not as_json:
            typer.echo(f"{part:<11}{move}")
    if as_json:
        print_json(moved)


def make_streams(
    nats_url: Annotated[str, typer.Option(envvar="DOSSIER_NATS_URL", help="nats:// or tls:// address")],
    password_file: Annotated[
        Path, typer.Option(envvar="DOSSIER_NATS_OPERATOR_PASSWORD_FILE", help="Password of the user `operator`")
    ],
    certificate_file: Annotated[
        Path | None, typer.Option(envvar="DOSSIER_OPERATOR_TLS_CERTIFICATE_FILE", help="Certificate to show to NATS")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(envvar="DOSSIER_OPERATOR_TLS_KEY_FILE", help="Key of that certificate")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream in a NATS cluster")] = 1,
    wait: Annotated[float, typer.Option(min=0, help="Seconds for which NATS may still be away")] = 0,
    *,
    as_json: Json = False,
) -> None:
    """Makes the streams of the producers and the consumers of their followers; can be repeated.

    NATS is verified by DOSSIER_CA_FILE, or else by what the system trusts.
    """
    import nats.errors

    from dossier_cli import streams

    password = given.secret(password_file, "DOSSIER_NATS_OPERATOR_PASSWORD_FILE")
    tls = given.tls(certificate=certificate_file, key=key_file).client
    try:
        made = asyncio.run(streams.run(nats_url, password, tls=tls, replicas=replicas, wait=wait))
    except (nats.errors.Error, OSError, ValueError) as error:
        raise Refused(f"NATS at {nats_url}, of DOSSIER_NATS_URL: {streams.reason(error)}") from error
    if as_json:
        print_json({"streams": made.streams, "consumers": made.consumers})
    else:
        typer.echo(f"made: {', '.join((*made.streams, *made.consumers))}" if made else "everything is there")


def nats_accounts(
    passwords: Annotated[Path, typer.Argument(help="Folder of the files `nats-<user>`: password or bcrypt")],
    target: Annotated[Path, typer.Argument(help="File to write, mode 0600: accounts.conf beside nats-server.conf")],
) -> None:
    """Writes the NATS users with exactly the permissions that the topology gives them."""
    from dossier_cli import accounts

    known = {user: given.secret(passwords / f"nats-{user}", "the first argument") for user in accounts.USERS}
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(accounts.configuration(known))
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}") from error


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
    from dossier_cli import secret_files

    if issuer is not None and not issuer.startswith(("https://", "http://")):
        raise typer.BadParameter("the issuer is https://HOST[:PORT]")
    made = secret_files.make(folder, issuer)
    if as_json:
        print_json({"made": made.names, "faults": made.faults})
    elif made.names:
        typer.echo(f"made: {', '.join(made.names)}")
    elif not made.faults:
        typer.echo("everything is there")
    if made.faults:
        raise Refused("; ".join(made.faults))


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
    from dossier_cli import certificates as making
    from dossier_common.clock import SystemClock

    done = making.make(folder, host or [], san or [], SystemClock().now())
    if as_json:
        print_json({"made": done.made, "renewed": done.renewed, "left": done.left})
        return
    for what, names in (("made", done.made), ("renewed", done.renewed), ("of another CA, left as they are", done.left)):
        if names:
            typer.echo(f"{what}: {', '.join(names)}")
    if not (done.made or done.renewed):
        typer.echo("everything is there")


def kubernetes_secrets(
    folder: Annotated[Path, typer.Argument(help="Folder that `dossier secrets` has made")],
    certificates_of: Annotated[
        Path | None, typer.Option("--certificates", help="Folder that `dossier certificates` has made")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace; kubectl's own when there is none")] = None,
) -> None:
    """Prints the Secrets and ConfigMaps that the Helm chart refers to, for kubectl: never to a terminal."""
    from dossier_cli import kubernetes

    if sys.stdout.isatty():
        raise Refused("this prints secrets: end the line with `| kubectl apply --filename -`")
    print_json(kubernetes.manifests(folder, certificates_of, namespace))
