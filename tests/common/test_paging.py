"""Where a page starts, as a service reads it from the cursor that it handed out."""

from datetime import date
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI, Request, Response

from dossier_common.ids import new_id
from dossier_common.paging import Page
from dossier_common.problems import Malformed

ID = new_id()


def page(*keys: Any) -> Page:
    """The page behind one that ended with these keys; the first where there are none."""
    app = FastAPI()
    app.state.cursor_secret = bytes(32)

    def asked(cursor: str | None) -> tuple[Page, Response]:
        scope = {"type": "http", "app": app, "path": "/v1/things", "query_string": b"", "headers": [], "server": None}
        answer = Response()
        return Page(Request(scope), answer, 50, cursor), answer

    first, answer = asked(None)
    if not keys:
        return first
    first.more(*keys)
    cursor = answer.headers["Link"].partition("cursor=")[2].partition(">")[0]
    return asked(cursor)[0]


def test_the_first_page_comes_after_nothing() -> None:
    assert page().after_id() is None
    assert page().starts(int) is None


def test_a_page_comes_after_the_keys_that_the_last_one_ended_with() -> None:
    def due(day: str, record: str) -> tuple[date, UUID]:
        return date.fromisoformat(day), UUID(record)

    assert page(str(ID)).after_id() == ID
    assert page("2026-11-22", str(ID)).starts(due) == (date(2026, 11, 22), ID)


@pytest.mark.parametrize("keys", [("x",), (5,), (str(ID), str(ID)), (None,)], ids=["text", "number", "two", "none"])
def test_keys_of_another_version_are_a_problem_of_the_caller(keys: tuple[Any, ...]) -> None:
    with pytest.raises(Malformed):
        page(*keys).after_id()
