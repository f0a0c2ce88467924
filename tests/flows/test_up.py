"""What `make up` leaves: the demo organisation, demo.json, and calls that work as they stand."""

import json
import os
import shutil
import stat
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from dossier_common.topology import PARTS
from dossier_local import organisation
from dossier_local.client import connected
from dossier_local.launched import RunningStack
from dossier_local.people import OFFICERS, PEOPLE, SERVICE, UNITS, Person
from dossier_local.stack import Stack
from dossier_local.state import CHECKOUT


def test_demo_json_is_for_its_owner_alone_and_says_where_everything_is(stack: RunningStack) -> None:
    assert stat.S_IMODE(stack.state.demo_file.stat().st_mode) == 0o600
    assert stack.demo["base_url"] == stack.base_url
    assert set(stack.demo["ports"]) == set(PARTS)
    assert set(stack.demo["units"]) == {"group", *(unit.code for unit in UNITS)}
    assert UUID(stack.demo["plan"])
    assert all(client["secret"] and client["scopes"] for client in stack.demo["clients"].values())
    names = {person.username for person in PEOPLE} | {username for username, _ in OFFICERS.values()}
    assert set(stack.demo["accounts"]) == names
    for username, account in stack.demo["accounts"].items():
        assert account["username"] == username
        assert account["password"]
        assert all(UUID(account[name]) for name in ("account", "person", "unit"))
        assert all(role["role"] and UUID(role["unit"]) for role in account["roles"])


async def test_every_account_and_client_of_demo_json_can_call(stack: RunningStack) -> None:
    async with connected(stack.base_url, stack.demo) as client:
        for username, account in stack.demo["accounts"].items():
            me = (await client.as_(username).get("/v1/me")).expecting(200)
            assert (me["username"], me["person"]) == (username, account["person"])
            held = {(role["role"], role["unit"]) for role in account["roles"]}
            assert {(role["role"], role["unit"]) for role in me["roles"]} == held
        for client_id, application in stack.demo["clients"].items():
            me = (await client.as_(client_id).get("/v1/me")).expecting(200)
            assert me["scopes"] == sorted(application["scopes"])


async def test_passwords_differ_between_accounts_and_state_folders(stack: RunningStack) -> None:
    passwords = [account["password"] for account in stack.demo["accounts"].values()]
    assert len(set(passwords)) == len(passwords)
    assert stack.state.read_secret("demo-passwords") not in stack.state.demo_file.read_text()


async def test_a_second_start_finds_everything(stack: RunningStack) -> None:
    again = await organisation.ensure(_as_stack(stack))
    assert again["units"].items() >= stack.demo["units"].items(), "others of this stack may have added some"
    assert {name: found for name, found in again.items() if name != "units"} == {
        name: stack.demo[name] for name in again if name != "units"
    }


async def test_a_start_goes_on_where_an_earlier_one_was_interrupted(stack: RunningStack) -> None:
    person = Person("late.comer", "后来", SERVICE, {"seat_agent": None})
    async with connected(stack.base_url, stack.demo) as client:
        admin, security = client.as_("wei.guo"), client.as_("luo.an")
        new = {"username": person.username, "display_name": person.name, "unit": stack.demo["units"][SERVICE]}
        invited = (await admin.post("/v1/accounts", new)).expecting(201)
        title = {"seat_agent": {"zh": "座席员", "en": "Agent"}}
        making = organisation._Making(stack.state, client, admin, security, stack.demo["units"], title)
        await making.person(person, {name: invited[name] for name in ("id", "state", "clearance")} | invited)
        me = (await client.as_(person.username).get("/v1/me")).expecting(200)
        assert me["qualifications"] == sorted(organisation.QUALIFICATIONS)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, {"username": "li.na"}),
        (1, {"items"}),
        (2, {"type": "urn:dossier:problem:insufficient-scope", "status": 403}),
    ],
)
def test_the_calls_that_are_printed_work_as_they_stand(stack: RunningStack, number: int, expected: Any) -> None:
    if shutil.which("curl") is None or not (CHECKOUT / ".venv" / ".installed").exists():
        pytest.skip("the printed lines need curl, and an environment that `make setup` has made")
    log = (stack.state.logs / "launcher.log").read_text()
    lines = [line.strip() for line in log.splitlines() if line.strip().startswith("curl ")]
    assert lines == organisation.curl_lines(stack.state, stack.base_url, named=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "DOSSIER_"))}
    done = subprocess.run(["bash", "-c", lines[number]], cwd=CHECKOUT, env=environment, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    if isinstance(expected, dict):
        assert {name: answer[name] for name in expected} == expected
    else:
        assert set(answer) == expected


def test_a_token_for_somebody_unknown_is_refused_in_one_sentence(stack: RunningStack) -> None:
    command = [sys.executable, "-P", "-m", "dossier_local", "token", "nobody"]
    environment = os.environ | {"DOSSIER_STATE": str(stack.state.folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("There is no demo account nobody. There are: fang.min,")
    assert len(done.stderr.splitlines()) == 1


def _as_stack(stack: RunningStack) -> Stack:
    """What `ensure` needs of a stack that another process runs."""
    return cast("Stack", SimpleNamespace(state=stack.state, base_url=stack.base_url, tls=True))
