"""`python -P -m tests.faults.points`: runs a process of a part with named points at which it can be made to fall.

Stands in the place of `python -P -m dossier_<part>.main` or `.worker`, whose name is in the environment. It wraps the
product from outside, by name; a name that is gone ends the process at once, so that no point can go missing silently.
"""

import os
import runpy
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client
from sqlalchemy import event
from sqlalchemy.orm import Session
from tests.faults import mutants
from tests.faults.folder import FOLDER, MODULE, PROCESS, Folder

from dossier_common.clock import SystemClock
from dossier_common.inbox import Consumer
from dossier_common.relay import Relay

POINTS: Final = {
    "relay.numbered": "after the commit that numbers a batch, before its publication",
    "relay.in-batch": "within a batch, before its last message is sent",
    "relay.published": "after the publication of a batch, before it is marked",
    "consumer.before-commit": "a batch is applied, not yet committed",
    "consumer.committed": "a batch is committed, not yet acknowledged",
    "receipt.before": "before the receipt is announced",
    "web.before-commit": "before the commit of a request",
    "web.committed": "after the commit of a request, before its answer",
    "reading.before-commit": "readings are decided, their intents not yet committed",
    "reading.committed": "after the commit of the intents, before anything is decrypted or answered",
}


class Missing(Exception):
    """The product no longer has what the harness wraps: bring the harness up to date."""


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Puts `make(original)` in the place of an attribute. Raises Missing when there is none."""
    if not hasattr(owner, name):
        raise Missing(f"{owner.__name__}.{name}")
    setattr(owner, name, make(getattr(owner, name)))


def after(reached: Callable[[], None], *, when: Callable[[Any], bool] = lambda _result: True) -> Callable[[Any], Any]:
    """Wraps a coroutine function: the point comes after it, for results of which `when` holds."""

    def make(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(original)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if when(result):
                reached()
            return result

        return wrapped

    return make


def given(name: str, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wraps a constructor so that the keyword argument `name` is replaced by `make` of it. Raises Missing."""

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def constructor(*args: Any, **kwargs: Any) -> None:
            if name not in kwargs:
                raise Missing(f"keyword {name} of {original.__qualname__}")
            kwargs[name] = make(kwargs[name])
            original(*args, **kwargs)

        return constructor

    return wrap


class Points:
    """Wraps what this process is made of."""

    def __init__(self, folder: Folder, process: str) -> None:
        self._folder, self._process = folder, process

    def reach(self, point: str) -> Callable[[], None]:
        if point not in POINTS:
            raise Missing(point)
        return lambda: self._folder.reached(self._process, point)

    def set_up(self) -> None:
        self._clock()
        if self._process.endswith("-worker"):
            self._relay()
            self._consumer()
            self._messages()
        else:
            event.listen(Session, "before_commit", lambda _session: self.reach("web.before-commit")())
            event.listen(Session, "after_commit", lambda _session: self.reach("web.committed")())
        if self._process == "records-web":
            self._reading()

    def _clock(self) -> None:
        def make(original: Callable[[SystemClock], datetime]) -> Callable[[SystemClock], datetime]:
            def now(clock: SystemClock) -> datetime:
                seconds = self._folder.clock(self._process)
                if seconds:
                    self._folder.tell(self._process, "clock")
                return original(clock) + timedelta(seconds=seconds)

            return now

        replaced(SystemClock, "now", make)

    def _relay(self) -> None:
        replaced(Relay, "_number", after(self.reach("relay.numbered"), when=bool))
        replaced(Relay, "__init__", given("deliver", after(self.reach("relay.published"))))

    def _consumer(self) -> None:
        replaced(Consumer, "__init__", given("apply", after(self.reach("consumer.before-commit"))))
        replaced(Consumer, "_take", after(self.reach("consumer.committed")))

    def _messages(self) -> None:
        """By what goes over the wire, so that it does not matter which function sends it."""

        def request(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def wrapped(client: Client, *args: Any, **kwargs: Any) -> Any:
                if "Nats-Batch-Commit" in (kwargs.get("headers") or {}):
                    self.reach("relay.in-batch")()
                return await original(client, *args, **kwargs)

            return wrapped

        def publish(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
            async def wrapped(client: Client, subject: str, *args: Any, **kwargs: Any) -> None:
                if subject.startswith("audit.receipts."):
                    self.reach("receipt.before")()
                await original(client, subject, *args, **kwargs)

            return wrapped

        replaced(Client, "request", request)
        replaced(Client, "publish", publish)

    def _reading(self) -> None:
        from dossier_records import reading  # noqa: PLC0415  # only where there is one

        def encode(original: Callable[..., bytes]) -> Callable[..., bytes]:
            def wrapped(*args: Any) -> bytes:
                self.reach("reading.before-commit")()
                return original(*args)

            return wrapped

        replaced(reading, "encode", encode)
        replaced(reading.Reader, "_commit", after(self.reach("reading.committed")))


def main() -> None:
    """Wraps, then runs the part's module as `python -m` would."""
    folder, process, module = Folder(Path(os.environ[FOLDER])), os.environ[PROCESS], os.environ[MODULE]
    for name in folder.mutants(process):
        mutants.MUTANTS[name]()
    Points(folder, process).set_up()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
