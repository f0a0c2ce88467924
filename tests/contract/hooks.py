"""Hooks of `schemathesis run`: say who sends a case, give most cases real ids and bodies, write down the answers.

A case that is wrong in one place gets good values in all others, so that it reaches the code behind what it tests.
Of the cases that are right by the schema, one of three is sent as it was generated.
"""

import json
import os
from pathlib import Path
from threading import Lock
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, Response, SerializationContext
from schemathesis.core.parameters import ParameterLocation
from schemathesis.transport.serialization import serialize_binary
from tests.contract.prepared import GOOD, POOLS, ROTA, SEEN, Good, Prepared
from tests.contract.rota import Rota


class Run:
    """What the hooks share; the cases come from several threads."""

    def __init__(self) -> None:
        self._prepared = Prepared(json.loads(Path(os.environ[POOLS]).read_text()))
        self._rota = Rota.read(json.loads(Path(os.environ[ROTA]).read_text()))
        self._seen = Path(os.environ[SEEN])
        self._turn = Lock()

    def fill(self, case: Case[Any]) -> None:
        """Puts the caller's token and good values into a case, where it is not wrong on purpose."""
        operation, wrong = _id(case), _wrong(case)
        with self._turn:
            turn = self._rota.next(operation, right=not wrong)
            alone, as_generated = not wrong and turn.number % 3 == 0, not wrong and turn.number % 3 == 2
            make = None if as_generated else GOOD.get(operation)
            good = make(self._prepared) if make else None
            name = self._prepared.name(operation)
        if turn.authorization is not None:
            case.headers["Authorization"] = turn.authorization
        if good is not None:
            _put(case, good, wrong, alone=alone)
            if alone and case.method == "POST":
                case.headers["Idempotency-Key"] = name

    def note(self, case: Case[Any], response: Response) -> None:
        """Writes down an answer; one to another verb than the operation's does not count for it."""
        if case.method.upper() == case.operation.method.upper():
            role = self._rota.role(case.headers.get("Authorization"))
            line = {"role": role, "operation": _id(case), "status": response.status_code}
            with self._turn, self._seen.open("a", encoding="utf-8") as seen:
                seen.write(f"{json.dumps(line)}\n")


def _id(case: Case[Any]) -> str:
    found: str = case.operation.definition.raw["operationId"]
    return found


def _wrong(case: Case[Any]) -> set[ParameterLocation]:
    """The places of a case that are wrong on purpose."""
    components = case.meta.components if case.meta else {}
    return {place for place, each in components.items() if each.mode is GenerationMode.NEGATIVE}


def _put(case: Case[Any], good: Good, wrong: set[ParameterLocation], *, alone: bool) -> None:
    if ParameterLocation.PATH not in wrong:
        case.path_parameters = {**case.path_parameters, **good.path}
    if ParameterLocation.QUERY not in wrong:
        case.query = {**({} if alone else case.query), **good.query}
    if ParameterLocation.HEADER not in wrong:
        case.headers.update(good.headers)
    if ParameterLocation.BODY in wrong:
        return
    if good.file is not None:
        case.body, case.media_type = good.file, "text/csv"
    elif good.body is not None:
        overlaid = {**case.body, **good.body} if isinstance(case.body, dict) else good.body
        case.body = good.body if alone else overlaid
        case.media_type = "application/json"


@schemathesis.serializer("text/csv", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
def send_file(context: SerializationContext, value: Any) -> bytes:
    """Files go as they are; schemathesis knows no such media types."""
    return value if isinstance(value, bytes) else serialize_binary(value)


run = Run()


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    run.fill(case)


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    run.note(case, response)
