"""Commands of a deployment that runs. What each needs is imported when it runs, so that `--help` stays quick."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from dossier_cli import given
from dossier_cli.errors import Refused
from dossier_cli.output import Json, print_json
from dossier_cli.parts import KINDS
from dossier_common.topology import PARTS

THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": list[str]()}
"""For commands whose arguments are another program's, `--help` among them."""


def add_to(commands: typer.Typer) -> None:
    """Adds what this module has."""
    commands.command(context_settings=THROUGH, add_help_option=False)(ceremony)
    commands.command(context_settings=THROUGH, add_help_option=False)(keys)
    commands.command()(backlog)
    commands.command()(health)
    commands.command()(partitions)
    commands.command()(erase)
    commands.command("accept-gap")(accept_gap)
    commands.command()(smoke)
    policy = typer.Typer(no_args_is_help=True, help="Policy packs.")
    policy.command("check")(check_policy)
    commands.add_typer(policy, name="policy")


def ceremony(context: typer.Context) -> None:
    """Makes the root unit and the three officers, once; their enrolment codes are shown here and nowhere else."""
    if not sys.stdout.isatty() and not {"--json", "--help", "-h"} & set(context.args):
        raise Refused(
            "standard output is no terminal, and the codes must not lie in a log: ask for --json to keep them"
        )
    from dossier_cli.database import said_in_one_line
    from dossier_gateway import ceremony as held

    with said_in_one_line("gateway"):
        raise typer.Exit(held.main(context.args, "dossier ceremony"))


def keys(context: typer.Context) -> None:
    """Lists or rotates the keys that sign the gateway's tokens: `dossier keys list`, `dossier keys rotate`."""
    from dossier_cli.database import said_in_one_line
    from dossier_gateway import keys as rotating

    with said_in_one_line("gateway"):
        raise typer.Exit(rotating.main(context.args, "dossier keys"))


def check_policy(
    file: Annotated[Path, typer.Argument(help="Pack; what it extends is looked for beside it")],
    *,
    as_json: Json = False,
) -> None:
    """Says what a policy pack is, or each fault with its place; 1 when it cannot be used."""
    from dossier_common.policy import PolicyError, load_policy

    try:
        policy = load_policy(file)
    except PolicyError as error:
        if as_json:
            faults = [{"file": f.file, "line": f.line, "key": f.key, "message": f.message} for f in error.faults]
            print_json({"valid": False, "faults": faults})
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        raise Refused(f"{error.filename or file} cannot be read: {error.strerror}") from error
    said = {"pack": policy.pack, "title": policy.title.model_dump(), "source": policy.source, "digest": policy.digest}
    if as_json:
        print_json({"valid": True, **said})
    else:
        typer.echo(f"{policy.pack}: {policy.title.zh} / {policy.title.en} ({policy.source})\n{policy.digest}")


def backlog(
    part: Annotated[str, typer.Argument(help="Part whose settings are in the environment")], *, as_json: Json = False
) -> None:
    """Says how many events wait for number, publication and receipt; 1 when readings are refused because of them."""
    from dossier_cli import backlog as waiting
    from dossier_cli.database import said_in_one_line

    _ensure_part(part)
    with said_in_one_line(part):
        found = asyncio.run(waiting.look(part))
    if as_json:
        print_json(found.as_dict())
    else:
        typer.echo("\n".join(found.lines()))
    if found.over:
        raise typer.Exit(1)


def partitions(
    months: Annotated[int, typer.Option(min=1, max=120, help="How many months ahead")] = 12, *, as_json: Json = False
) -> None:
    """Makes monthly partitions of the audit service's bodies ahead, as audit_migrator; can be repeated."""
    from dossier_audit import partitions as making
    from dossier_cli import migrate
    from dossier_cli.database import said_in_one_line
    from dossier_common import migrator

    migrate.named("audit")
    with said_in_one_line("audit", "MIGRATOR"):
        made = asyncio.run(making.make_ahead(migrator.engine("audit"), months))
    if as_json:
        print_json({"made": made})
    else:
        typer.echo("\n".join(made) or "everything is there")


def erase(
    event: Annotated[UUID, typer.Argument(help="Id of the event")],
    order: Annotated[str, typer.Argument(help="Reference to the order; it stays for good, so no personal data")],
    *,
    as_json: Json = False,
) -> None:
    """Erases the body of one event by law, as audit_migrator; the leaf and its proofs stay. 1 when there is none."""
    from dossier_audit import erasure, rules
    from dossier_cli import migrate
    from dossier_cli.database import said_in_one_line
    from dossier_common import migrator
    from dossier_common.clock import SystemClock

    migrate.named("audit")
    try:
        with said_in_one_line("audit", "MIGRATOR"):
            erased = asyncio.run(erasure.erase(migrator.engine("audit"), event, order, SystemClock()))
    except rules.NoReference as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        print_json({"erased": erased})
    else:
        typer.echo(f"erased: {erased}")
    if not erased:
        raise typer.Exit(1)


def accept_gap(
    producer: Annotated[str, typer.Argument(help="Part whose feed says `events-pruned`")],
    order: Annotated[str, typer.Argument(help="Reference to the order; it stays for good, so no personal data")],
    *,
    as_json: Json = False,
) -> None:
    """Lets the audit log go on without events that nobody has any more, as an event. 1 when there is no such gap."""
    from dossier_audit import gaps, rules
    from dossier_cli import accepting
    from dossier_cli.database import said_in_one_line

    _ensure_part(producer)
    try:
        with said_in_one_line("audit"):
            gap = asyncio.run(accepting.accept(producer, order))
    except rules.NoReference as error:
        raise typer.BadParameter(str(error)) from error
    except gaps.NotAnew as error:
        raise Refused(f"{producer} has not begun a new epoch yet: its worker does within a minute") from error
    except gaps.NoGap as error:
        raise Refused(f"{producer} has all that the log needs next") from error
    if as_json:
        print_json(gap.model_dump())
    else:
        typer.echo(
            f"{producer}: events behind {gap.epoch}/{gap.seq} are missing; the log goes on with epoch {gap.next_epoch}"
        )


def health(
    part: Annotated[str, typer.Argument(help="Part")], kind: Annotated[str, typer.Argument(help="web or worker")]
) -> None:
    """Asks the process of this container whether it is ready; `dossier-health` is the same, and lighter."""
    from dossier_cli import health as asked

    _ensure_part(part)
    if kind not in KINDS:
        raise typer.BadParameter("say web or worker")
    raise typer.Exit(asked.main([part, kind]))


def smoke(
    at: Annotated[str, typer.Option(help="Address of the gateway")],
    issuer: Annotated[
        str | None, typer.Option(help="What the gateway has to call itself, where that is another address")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds for which nobody may answer there yet")] = 0,
) -> None:
    """Takes a caller's first steps at a gateway, without an account; exit status 1 at the first that fails."""
    from dossier_cli import smoke as steps

    for step in steps.run(at, issuer, given.tls(), wait=wait):
        typer.echo(step)


def _ensure_part(part: str) -> None:
    if part not in PARTS:
        raise typer.BadParameter(f"there is no part {part}; there are {', '.join(PARTS)}")
