"""The columns of the access matrix as real callers: an account for each role in each of two units, and applications."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dossier_common.policy import Policy
from dossier_common.scopes import FOR_PEOPLE, ONLY_PERSONS
from dossier_local.client import Client
from dossier_local.launched import RunningStack
from dossier_local.matrix import APPLICATION, NOBODY, SEVERAL, Caller, Matrix, Whose, compatible_roles
from dossier_local.organisation import _Making
from dossier_local.people import ADMINISTRATOR, COMPANY, OFFICERS, SECURITY, SERVICE, Person

BRANCH: Final = "branch"
"""Code of the second department, which has people of its own and nothing else."""
PLACES: Final = {Whose.COLLEAGUE: SERVICE, Whose.ELSEWHERE: BRANCH}
"""Where the callers hold their roles, seen from objects of customer service: none of the objects is theirs."""
AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Called:
    """A column of the matrix with a token, in one of the units."""

    caller: Caller
    whose: Whose
    token: str | None

    @property
    def name(self) -> str:
        """For what a test says."""
        return f"{self.caller.id} ({self.whose})"


class Callers:
    """Makes the callers on a running stack, whose objects have to be there already: they take part in no case."""

    def __init__(self, stack: RunningStack, client: Client, matrix: Matrix) -> None:
        self._stack, self._client, self._matrix = stack, client, matrix
        self._columns = {each.id: each for each in matrix.callers}

    async def make(self) -> list[Called]:
        """All of them; officers are those of the demo organisation, since officers stand above its units."""
        making = await self._making()
        places = asyncio.Semaphore(AT_ONCE)

        async def one(column: str, roles: Sequence[str], whose: Whose) -> Called:
            async with places:
                unit = PLACES[whose]
                name = f"matrix-{unit}-{column}".replace("_", "-")
                held: Mapping[str, str | None] = dict.fromkeys(roles)
                await making.person(Person(name, name, unit, held, clearance="top_secret"), None)
                return await self._called(column, name, whose)

        wanted = [(role.id, [role.id]) for role in self._matrix.policy.roles if role.id not in OFFICERS]
        wanted.append((SEVERAL, compatible_roles(self._matrix.policy)))
        people = [one(column, roles, whose) for column, roles in wanted for whose in PLACES]
        officers = [self._called(role, name, Whose.COLLEAGUE) for role, (name, _) in OFFICERS.items()]
        nobody = Called(self._columns[NOBODY], Whose.ELSEWHERE, None)
        return [nobody, *await asyncio.gather(*people, *officers), *await self._applications()]

    async def _making(self) -> _Making:
        admin, security = self._client.as_(ADMINISTRATOR), self._client.as_(SECURITY)
        units = dict(self._stack.demo["units"])
        title = {"zh": "分部", "en": "Branch"}
        new = {"code": BRANCH, "title": title, "kind": "department", "parent": units[COMPANY]}
        units[BRANCH] = (await admin.post("/v1/units", new)).expecting(201)["id"]
        roles = (await admin.get("/v1/roles")).expecting(200)["items"]
        titles = {role["id"]: role["title"] for role in roles}
        return _Making(self._stack.state, self._client, admin, security, units, titles)

    async def _called(self, column: str, name: str, whose: Whose) -> Called:
        caller, token = self._columns[column], await self._client.as_(name).token()
        assert token.scopes == caller.scopes, f"{name} holds {sorted(token.scopes)}"
        return Called(caller, whose, token.access)

    async def _applications(self) -> list[Called]:
        """One for each set of scopes that one hand may hold; together they have all that an application may have."""
        found, for_applications = [], sorted(map(str, FOR_PEOPLE - ONLY_PERSONS))
        for number, scopes in enumerate(hands(self._matrix.policy, for_applications)):
            name = f"matrix-application-{number}"
            new: dict[str, Any] = {"id": name, "title": name, "grant_types": ["client_credentials"], "scopes": scopes}
            made = (await self._client.as_(ADMINISTRATOR).post("/v1/clients", new)).expecting(201)
            self._client.add_client(name, made["secret"])
            column = self._columns[APPLICATION]
            caller = Caller(column.id, column.zh, column.en, frozenset(scopes), person=False)
            token = await self._client.as_(name).token()
            assert token.scopes == caller.scopes, name
            found.append(Called(caller, Whose.ELSEWHERE, token.access))
        return found


def hands(policy: Policy, scopes: Iterable[str]) -> list[list[str]]:
    """The scopes in as few sets as come of taking each into the first that it does not conflict with."""
    found: list[list[str]] = []
    for scope in scopes:
        for held in found:
            if not policy.conflicts_in([*held, scope]):
                held.append(scope)
                break
        else:
            found.append([scope])
    return found
