"""Events of the audit service itself: what auditors did (A4.33); and which events of all parts are alarms."""

from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

from dossier_common.contracts.approvals import (
    EmergencyReviewOverdue,
    EmergencyUnjustified,
    EmergencyUsed,
    StageVacated,
)
from dossier_common.contracts.gateway import PolicyUnapproved
from dossier_common.events import AccessRefused as BaseAccessRefused
from dossier_common.events import Event


class EventsQueried(Event):
    """An auditor searched the log: with which filters, and how many events he saw."""

    TYPE: ClassVar[str] = "audit.v1.events.queried"

    filters: tuple[str, ...]
    found: int


class ActivityQueried(Event):
    """An auditor asked what one person did: over how many types, and how many records of the page he saw."""

    TYPE: ClassVar[str] = "audit.v1.activity.queried"

    subject_person: UUID
    start: datetime | None = None
    end: datetime | None = None
    types: int
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


class ProducerSilent(Event):
    """Nothing is heard of a producer: it may be down, or somebody keeps its events back."""

    TYPE: ClassVar[str] = "audit.v1.producer.silent"

    producer: str


class ProducerHeard(Event):
    """A producer that was silent is heard again."""

    TYPE: ClassVar[str] = "audit.v1.producer.heard"

    producer: str


class EventProved(Event):
    """An auditor took the proof of one event."""

    TYPE: ClassVar[str] = "audit.v1.event.proved"

    object: UUID


class BodiesOpened(Event):
    """An auditor took the bodies of consecutive leaves of a log, to check them against their commitments."""

    TYPE: ClassVar[str] = "audit.v1.bodies.opened"

    generation: int
    first: int
    count: int


class BodyErased(Event):
    """A law wanted the body of an event erased; its leaf, and every proof over it, stay."""

    TYPE: ClassVar[str] = "audit.v1.body.erased"

    object: UUID
    order: str


class GapAccepted(Event):
    """A producer's events behind (`epoch`, `seq`) are in nobody's hands any more; the log goes on with `next_epoch`."""

    TYPE: ClassVar[str] = "audit.v1.gap.accepted"

    producer: str
    epoch: int
    seq: int
    next_epoch: int
    order: str


class LogOpened(Event):
    """The first leaf of each log. A log that follows a restored one names the last checkpoint of that (hex root)."""

    TYPE: ClassVar[str] = "audit.v1.log.opened"

    generation: int
    predecessor_origin: str | None = None
    predecessor_size: int | None = None
    predecessor_root: str | None = None


class LogRestored(Event):
    """This database could not explain a checkpoint that lies outside: it was set back, and a new log was opened."""

    TYPE: ClassVar[str] = "audit.v1.log.restored"

    generation: int
    origin: str
    size: int
    root: str


class WitnessLost(Event):
    """A witness gives no cosignatures; the log goes on without it."""

    TYPE: ClassVar[str] = "audit.v1.witness.lost"

    witness: str


class WitnessReturned(Event):
    """A witness that was lost cosigns again."""

    TYPE: ClassVar[str] = "audit.v1.witness.returned"

    witness: str


class WitnessDisputed(Event):
    """A witness says that the log contradicts what it has cosigned, and shows no checkpoint that the log signed."""

    TYPE: ClassVar[str] = "audit.v1.witness.disputed"

    witness: str
    size: int


ALARMS: Final = tuple(
    each.TYPE
    for each in (
        *(ProducerForked, ProducerSilent, GapAccepted, LogRestored, WitnessLost, WitnessDisputed),
        *(EmergencyUsed, EmergencyUnjustified, EmergencyReviewOverdue, StageVacated, PolicyUnapproved),
    )
)
"""Types of events that somebody has to look into, whichever part they come from."""


class AccessRefused(BaseAccessRefused):
    """The audit service refused a known caller."""

    TYPE: ClassVar[str] = "audit.v1.access.refused"
