"""Commands within the text of deploy/README.md and the operators' pages: each exists, and each is run by a test."""

import pytest
from tests.docs import inline as account
from tests.docs.inline import PAGES, Inline, calls, command_of, inline_commands, is_run
from tests.docs.test_commands import DOCUMENTS
from tests.support.command import called
from typer.testing import CliRunner

from dossier_local.main import app as launcher
from dossier_local.state import CHECKOUT

RUN = (*DOCUMENTS, CHECKOUT / "deploy" / "compose" / "README.md")
"""Documents whose blocks are run: here, and by tests/compose."""
FIRST = {each.text: each for page in reversed(PAGES.values()) for each in reversed(inline_commands(page))}
"""Each command, where it stands first."""
WIDE = {"COLUMNS": "999", "TERM": "dumb"}


def unknown(span: str) -> list[str]:
    """Commands and options of ours in this span that there are not."""
    lacking = []
    for program, words in calls(span):
        try:
            path, options = command_of(program, words)
        except KeyError as error:
            lacking.append(str(error.args[0]))
            continue
        if program == "dossier":
            said = called((*path, "--help"), WIDE)
            status, told = said.status, said.out
        else:
            shown = CliRunner().invoke(launcher, [*path, "--help"], env=WIDE)
            status, told = shown.exit_code, shown.output
        if status:
            lacking.append(" ".join(path))
        lacking += [option for option in options if option not in told.replace(",", " ").split()]
    return lacking


def written(text: str) -> list[Inline]:
    """The commands of a page with this text."""
    return inline_commands(PAGES["operating"], text)


@pytest.mark.parametrize("span", FIRST.values(), ids=lambda span: span.text)
def test_every_command_within_the_text_is_run_by_a_test(span: Inline) -> None:
    assert is_run(span, RUN), f"{span.place}: run `{span.text}` in a test that takes it by `inline(…)`"


@pytest.mark.parametrize("span", FIRST.values(), ids=lambda span: span.text)
def test_every_command_of_ours_within_the_text_exists_with_its_options(span: Inline) -> None:
    assert unknown(span.text) == [], span.place


def test_all_pages_of_operators_are_looked_at() -> None:
    there = {path for path in PAGES["embedded"].parent.glob("*.md") if path.name != "README.zh-CN.md"}
    assert set(PAGES.values()) == there | {CHECKOUT / "deploy" / "README.md"}
    assert len(FIRST) > 40, "the pattern finds what operators type"


# -- the account itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "make lock",
        "kubectl delete namespace compliance",
        "dossier smoke --at URL --wait 5",
        "docker compose down --volumes",
        "keys rotate --at-once --compromised",
        "DOSSIER_PORT=9 make up",
        ".venv/bin/python -m dossier_local story --at URL",
        ".venv/bin/dossier-witness",
        "--never",
        "pg_restore",
    ],
)
def test_a_command_that_nobody_runs_is_found(command: str) -> None:
    (span,) = written(f"| so | it is done by `{command}`: |")
    assert span.text == command
    assert not is_run(span, RUN)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("dossier explode", ["explode"]),
        ("dossier roles --never", ["--never"]),
        ("keys rotate --never", ["--never"]),
        ("dossier keys burn", ["keys burn"]),
        ("policy judge FILE", ["judge"]),
        ("kubectl exec deployment/any -- dossier backlog records --never", ["--never"]),
        ("docker compose exec PART dossier explode", ["explode"]),
        (".venv/bin/python -m dossier_local env --never PART COMMAND", ["--never"]),
        (".venv/bin/python -m dossier_local env PART .venv/bin/dossier backlog PART --never", ["--never"]),
        (".venv/bin/python -m dossier_local explode", ["explode"]),
        ("up --never", ["--never"]),
    ],
)
def test_a_command_or_an_option_that_there_is_not_is_found(command: str, expected: list[str]) -> None:
    (span,) = written(f"Do `{command}`.")
    assert unknown(span.text) == expected


def test_names_of_things_are_no_commands() -> None:
    names = ("nats/", "helm/dossier", "nats.log", "dossier-prometheus-tls", "migrate", "records", "sslmode …")
    assert written("".join(f"`{name}` " for name in names)) == []


def test_a_command_is_read_as_it_is_shown() -> None:
    text = "```sh\nmake no\n```\n| so | `dossier kubernetes-secrets … \\| kubectl apply …`, or `make\nup` |"
    assert [(span.line, span.text) for span in written(text)] == [
        (4, "dossier kubernetes-secrets … | kubectl apply …"),
        (4, "make up"),
    ]


def test_a_test_takes_just_one_command_that_begins_as_it_says() -> None:
    assert account.inline("embedded", "make dem") == "make demo"
    assert account.inline("troubleshooting", "dossier roles") == "dossier roles"
    for beginning in ("make ", "make lock"):
        with pytest.raises(AssertionError, match="begins"):
            account.inline("embedded", beginning)
