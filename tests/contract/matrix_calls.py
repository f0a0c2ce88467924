"""Calls every cell of the access matrix, and says where an answer is not what policy and endpoints say."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx
from tests.contract.answers import Documented
from tests.contract.matrix_callers import Called
from tests.contract.matrix_objects import BY_BODY, CLASSIFIED, NONE_THERE, OPEN, good, target, unknown
from tests.contract.prepared import Good, Prepared

from dossier_local.matrix import NO_SCOPE, Answer, Matrix, Operation, Whose

AT_ONCE: Final = 16
TRIES: Final = 3
LEVELS: Final = frozenset({OPEN, CLASSIFIED})
PROBLEM: Final = "application/problem+json"
PERSON_NEEDED: Final = "person-needed"
"""What an application is told where only a person acts, before it is asked whose the object is."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One call of the matrix, and what it has to be answered."""

    operation: Operation
    called: Called
    level: str | None
    expected: Answer

    @property
    def name(self) -> str:
        """For what a test says."""
        level = f", {self.level}" if self.level else ""
        return f"{self.operation.address} by {self.called.name}{level}"

    @property
    def refused(self) -> bool:
        """Whether nothing may change by it."""
        return not self.expected.passes


def cells(matrix: Matrix, callers: Sequence[Called]) -> Iterator[Cell]:
    """Every operation by every caller, for each object that makes a difference."""
    for operation in matrix.operations:
        cases = matrix.cases(operation)
        levels = {level for _, level in cases if level is None or level in LEVELS}
        for called in callers:
            for level in sorted(levels, key=str):
                whose = called.whose if called.caller.person else Whose.ELSEWHERE
                yield Cell(operation, called, level, matrix.answer(operation, called.caller, whose, level))


@dataclass
class Calls:
    """Makes the calls of cells, at most so many at once, over one prepared state."""

    http: httpx.AsyncClient
    documented: Documented
    there: Prepared
    plaintext: frozenset[str]
    faults: list[str] = field(default_factory=list)
    made: int = 0
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _unknown: dict[str, dict[str, Any]] = field(default_factory=dict)
    _deleted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._secret = re.compile("|".join(re.escape(each) for each in sorted(self.plaintext)))

    async def make(self, wanted: Iterable[Cell]) -> None:
        """Calls all cells, deletions last and one by one; what is wrong is added to the faults."""
        deleting: list[Cell] = []
        calls: list[Cell] = []
        for cell in wanted:
            (deleting if cell.operation.method == "DELETE" and not cell.refused else calls).append(cell)
        await asyncio.gather(*(self._one(cell) for cell in calls))
        for cell in deleting:
            await self._one(cell)

    async def _one(self, cell: Cell) -> None:
        async with self._places:
            values, shown = self._values(cell)
            answer = await self.send(cell.operation, values, cell.called.token)
            self.made += 1
            fault = await self._fault(cell, values, shown, answer)
            if fault:
                self.faults.append(f"{cell.name}: {fault} (answered {answer.status_code} {slug(answer)})")
            if cell.operation.method == "DELETE" and answer.is_success:
                self._deleted.add(answer.request.url.path)

    def _values(self, cell: Cell) -> tuple[Good, str | None]:
        found = target(cell.operation.id, self.there, cell.level)
        if found is not None:
            return found
        return good(cell.operation.id, self.there, cell.level), None

    async def send(self, operation: Operation, values: Good, token: str | None) -> httpx.Response:
        """One call with these values; repeated as it is told to where a part has no time."""
        path = operation.path
        for name, value in values.path.items():
            path = path.replace(f"{{{name}}}", value)
        assert "{" not in path, f"{operation.id} has no values for {path}"
        headers = {"Accept-Language": "en", **values.headers} | ({"Authorization": f"Bearer {token}"} if token else {})
        content = None
        if values.file is not None:
            content, headers["Content-Type"] = values.file.encode(), "text/csv"
        elif values.body is not None:
            content, headers["Content-Type"] = json.dumps(values.body).encode(), "application/json"
        query = dict(values.query)
        for _ in range(TRIES):
            answer = await self.http.request(operation.method, path, params=query, headers=headers, content=content)
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE or "retry-after" not in answer.headers:
                break
            await asyncio.sleep(int(answer.headers["retry-after"]))
        return answer

    async def _fault(self, cell: Cell, values: Good, shown: str | None, answer: httpx.Response) -> str | None:
        """What is wrong with an answer, or None."""
        if undocumented := self.documented.fault(cell.operation.id, values.path, answer):
            return undocumented
        if self._secret.search(answer.text):
            return "shows content"
        if cell.expected.passes:
            return self._closed(cell, shown, answer)
        if cell.expected.slug is not None:
            right = (answer.status_code, slug(answer)) == (cell.expected.status, cell.expected.slug)
            return None if right else f"expected {cell.expected.status} {cell.expected.slug}"
        if not cell.called.caller.person and slug(answer) == PERSON_NEEDED:
            return None
        return await self._beyond(cell, values, shown, answer)

    async def _beyond(self, cell: Cell, values: Good, shown: str | None, answer: httpx.Response) -> str | None:
        """What is wrong with the answer for an object out of reach."""
        if answer.status_code != cell.expected.status or slug(answer) == NO_SCOPE.slug:
            return f"expected {cell.expected.status}"
        if cell.expected.status == HTTPStatus.NOT_FOUND:
            like = await self._of_nothing(cell, values)
            return None if _document(answer) == like else f"unlike what does not exist, {like}"
        if cell.expected.status == HTTPStatus.OK:
            return "tells of what is out of reach" if shown is None or shown in answer.text else None
        return None if _is_problem(answer) else "no problem document"

    def _closed(self, cell: Cell, shown: str | None, answer: httpx.Response) -> str | None:
        """What speaks against the door's being open."""
        told, rule = slug(answer), cell.operation.rule
        closed = answer.status_code == HTTPStatus.UNAUTHORIZED or told == NO_SCOPE.slug
        if closed and cell.operation.id not in BY_BODY:
            return "the door is closed"
        gone = cell.operation.id in NONE_THERE or answer.request.url.path in self._deleted
        if answer.status_code == HTTPStatus.NOT_FOUND and not gone:
            return "hides what is within reach"
        lists = rule is not None and rule.otherwise == 200
        if lists and answer.is_success and shown is not None and shown not in answer.text:
            return "leaves out what is within reach"
        return None

    async def _of_nothing(self, cell: Cell, values: Good) -> dict[str, Any]:
        """What the same caller is answered for an object that does not exist; asked once for each operation."""
        key = cell.operation.id
        if key not in self._unknown:
            answer = await self.send(cell.operation, unknown(values), cell.called.token)
            self._unknown[key] = _document(answer)
        return self._unknown[key]


def slug(answer: httpx.Response) -> str:
    """The problem's name, or nothing."""
    return str(answer.json()["type"]).rpartition(":")[2] if _is_problem(answer) else ""


def _is_problem(answer: httpx.Response) -> bool:
    return bool(answer.headers.get("content-type", "") == PROBLEM)


def _document(answer: httpx.Response) -> dict[str, Any]:
    """A problem without the address."""
    if not _is_problem(answer):
        return {"status": answer.status_code}
    return {name: value for name, value in answer.json().items() if name != "instance"}
