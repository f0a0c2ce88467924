"""Events of the audit service itself: what auditors did (A4.33)."""

from typing import ClassVar
from uuid import UUID

from dossier_common.events import AccessRefused as BaseAccessRefused
from dossier_common.events import Event


class EventsQueried(Event):
    """An auditor searched the log: with which filters, and how many events he saw."""

    TYPE: ClassVar[str] = "audit.v1.events.queried"

    filters: tuple[str, ...]
    found: int


class EventOpened(Event):
    """An auditor opened one event with its body."""

    TYPE: ClassVar[str] = "audit.v1.event.opened"

    object: UUID


class ProducerForked(Event):
    """A producer's chain does not go on from what was received before."""

    TYPE: ClassVar[str] = "audit.v1.producer.forked"

    producer: str
    epoch: int
    seq: int


class AccessRefused(BaseAccessRefused):
    """The audit service refused a known caller."""

    TYPE: ClassVar[str] = "audit.v1.access.refused"
