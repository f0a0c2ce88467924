"""No request waits for a thread: what FastAPI calls for it are coroutines."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from dossier_common.topology import PARTS


def called(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """What FastAPI calls for a request."""
    if dependant.call is not None:
        yield dependant.call
    for each in dependant.dependencies:
        yield from called(each)


def endpoints(routes: list[BaseRoute]) -> Iterator[APIRoute]:
    """Of an application, with those of what it includes."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        else:
            inner = getattr(route, "original_router", None) or getattr(route, "app", None)
            yield from endpoints(getattr(inner, "routes", []))


@pytest.mark.parametrize("part", PARTS)
def test_no_endpoint_and_nothing_that_it_depends_on_is_run_in_a_thread(part: str) -> None:
    found = list(endpoints(importlib.import_module(f"dossier_{part}.main").create(None).routes))
    assert len(found) > 5
    waits = {
        f"{each.__module__}.{each.__qualname__}"
        for route in found
        for each in called(route.dependant)
        if not (inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each))
        and not inspect.iscoroutinefunction(getattr(each, "__call__", None))  # noqa: B004  # an object that is one
    }
    assert waits == set()
