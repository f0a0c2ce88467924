"""Certificates of destruction: what was destroyed when, how and by whom, signed by the retention service (A4.26).

They hold identifiers and facts about the record, no personal data of the customer. What is signed is a domain line
and the canonical JSON (RFC 8785) of the document without its signature.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from dossier_common.canonical import canonical
from dossier_common.contracts.records import RecordShredded
from dossier_common.events import instant
from dossier_common.keys import SigningKey, VerifyingKeys
from dossier_retention.models import Copy, Disposal, Participant, Record, RetentionClock
from dossier_retention.rules import Duty

_DOMAIN = b"dossier-certificate-v1\n"


@dataclass(frozen=True, slots=True)
class Destruction:
    """What the records service said of a destruction, and in which of its events."""

    event: UUID
    at: datetime
    evidence: RecordShredded


def describe(
    certificate_id: UUID,
    *,
    record: Record,
    clock: RetentionClock | None,
    case: Disposal,
    participants: Sequence[Participant],
    lost: Sequence[Copy],
    destruction: Destruction,
    backup_days: int,
    issued_at: datetime,
) -> dict[str, Any]:
    """The document, unsigned."""

    def persons(duty: Duty) -> list[str]:
        return [str(each.person) for each in participants if each.duty == duty]

    def at(moment: datetime | None) -> str | None:
        return instant(moment) if moment else None

    horizon = (destruction.at + timedelta(days=backup_days)).date().isoformat()
    return {
        "id": str(certificate_id),
        "disposal": str(case.id),
        "record": str(record.id),
        "method": case.method,
        "content": {
            "customer_type": record.customer_type,
            "level": record.level,
            "unit": str(record.unit),
            "opened_on": record.opened_on.isoformat(),
            "relationship_ended_on": record.relationship_ended_on.isoformat() if record.relationship_ended_on else None,
            "rule": case.rule,
            "due_on": clock.due_on.isoformat() if clock else None,
        },
        "proposed_at": at(case.proposed_at),
        "approved_at": at(case.approved_at),
        "executed_at": at(case.executed_at),
        "ordered_at": at(case.ordered_at),
        "destroyed_at": at(destruction.at),
        "issued_at": at(issued_at),
        "proposer_person": next(iter(persons(Duty.PROPOSER)), None),
        "approver_persons": persons(Duty.APPROVER),
        "executor_person": next(iter(persons(Duty.EXECUTOR)), None),
        "witness_person": next(iter(persons(Duty.WITNESS)), None),
        "grant": str(case.grant),
        "copies_lost": [copy.number for copy in lost],
        "evidence": {
            "event": str(destruction.event),
            "ring": destruction.evidence.ring,
            "epoch_destroyed": destruction.evidence.epoch_destroyed,
            "epoch_current": destruction.evidence.epoch_current,
            "rewrapped": destruction.evidence.rewrapped,
            "remaining_under_old_epoch": destruction.evidence.remaining_under_old_epoch,
            "decryption_failed": destruction.evidence.decryption_failed,
            "supplement": destruction.evidence.supplement,
        },
        "backup_horizon": {
            "days": backup_days,
            "until": horizon,
            "text": {
                "zh": f"销毁前的备份中没有可读副本；其盲索引至迟于 {horizon} 随备份删除。",
                "en": "Backups from before the destruction hold no readable copy; "
                f"their blind indexes go with them by {horizon}.",
            },
        },
        "policy": case.policy,
    }


def sign(document: dict[str, Any], key: SigningKey) -> tuple[bytes, bytes]:
    """The text that is kept, which names the key, and its signature."""
    text = canonical(document | {"kid": key.kid})
    return text, key.sign(_DOMAIN + text)


def signed(text: bytes, signature: bytes) -> dict[str, Any]:
    """The document with its signature, as it is handed out."""
    document: dict[str, Any] = orjson.loads(text)
    return document | {"signature": b64encode(signature).decode()}


def holds(certificate: dict[str, Any], keys: VerifyingKeys) -> bool:
    """Whether a certificate that was handed out is as it was signed."""
    document = {name: value for name, value in certificate.items() if name != "signature"}
    try:
        signature = b64decode(certificate["signature"], validate=True)
    except (KeyError, TypeError, ValueError):
        return False
    return keys.holds(signature, _DOMAIN + canonical(document))
