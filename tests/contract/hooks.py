"""Hooks of `schemathesis run`: give most cases real ids and bodies, and write down what each call was answered.

A case that is wrong in one place gets good values in all others, so that it reaches the code behind what it tests.
Of the cases that are right by the schema, one of three is sent as it was generated.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, Response, SerializationContext
from schemathesis.core.parameters import ParameterLocation
from schemathesis.transport.serialization import serialize_binary
from tests.contract.prepared import GOOD, POOLS, SEEN, TURN, Good, Prepared


class Run:
    """What the hooks of one run share."""

    def __init__(self) -> None:
        self._prepared = Prepared(json.loads(Path(os.environ[POOLS]).read_text()), int(os.environ[TURN]))
        self._seen = Path(os.environ[SEEN])
        self._right: Counter[str] = Counter()

    def fill(self, case: Case[Any]) -> None:
        """Puts good values into a case, where it is not wrong on purpose."""
        operation = _id(case)
        if operation not in GOOD:
            return
        components = case.meta.components if case.meta else {}
        wrong = {place for place, each in components.items() if each.mode is GenerationMode.NEGATIVE}
        turn = -1
        if not wrong:
            turn = self._right[operation] % 3
            self._right[operation] += 1
            if turn == 2:
                return
        _put(case, GOOD[operation](self._prepared), wrong, alone=turn == 0)
        if turn == 0 and case.method == "POST":
            case.headers["Idempotency-Key"] = self._prepared.name(operation)

    def note(self, case: Case[Any], status: int) -> None:
        """Writes down an answer; one to another verb than the operation's does not count for it."""
        if case.method.upper() == case.operation.method.upper():
            with self._seen.open("a", encoding="utf-8") as seen:
                seen.write(f"{json.dumps({'operation': _id(case), 'status': status})}\n")


def _id(case: Case[Any]) -> str:
    found: str = case.operation.definition.raw["operationId"]
    return found


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
    run.note(case, response.status_code)
