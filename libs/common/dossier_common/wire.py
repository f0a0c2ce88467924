"""How numbered events travel: the same JSON in a JetStream message and in a page of the feed."""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from dossier_common.leaves import ChainBroken, Head, Numbered


def head_to_json(head: Head) -> dict[str, Any]:
    """Producer, epoch, seq, hash (hex), signature (base64)."""
    return {
        "producer": head.producer,
        "epoch": head.epoch,
        "seq": head.seq,
        "hash": head.hash.hex(),
        "signature": b64encode(head.signature).decode(),
    }


def head_from_json(value: dict[str, Any]) -> Head:
    """Raises ChainBroken for what is no head."""
    try:
        return Head(
            str(value["producer"]),
            int(value["epoch"]),
            int(value["seq"]),
            bytes.fromhex(value["hash"]),
            b64decode(value["signature"], validate=True),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ChainBroken("not a head") from error


def event_to_json(event: Numbered) -> dict[str, Any]:
    """The leaf and the body as the text that was hashed, the salt in base64."""
    return {
        "leaf": event.leaf.decode(),
        "salt": b64encode(event.salt).decode(),
        "body": event.body.decode(),
    }


def event_from_json(value: dict[str, Any]) -> Numbered:
    """Raises ChainBroken for what is no event."""
    try:
        leaf = value["leaf"].encode()
        said = orjson.loads(leaf)
        kind, epoch, seq = said["type"], said["epoch"], said["seq"]
        if not (type(kind) is str and type(epoch) is int and type(seq) is int):
            raise ChainBroken("not an event")
        return Numbered(
            UUID(said["id"]),
            kind,
            epoch,
            seq,
            leaf,
            b64decode(value["salt"], validate=True),
            value["body"].encode(),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ChainBroken("not an event") from error


def message(event: Numbered, head: Head) -> bytes:
    """The payload of one JetStream message: the event, and the signed head of its batch."""
    return orjson.dumps(event_to_json(event) | {"head": head_to_json(head)})


def read_message(payload: bytes) -> tuple[Numbered, Head]:
    """Raises ChainBroken for a payload that is none of ours."""
    try:
        value = orjson.loads(payload)
        return event_from_json(value), head_from_json(value["head"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ChainBroken("not a message") from error


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the feed; without a head it is the end, where `through` tells until when nothing is missing."""

    events: list[Numbered]
    head: Head | None
    through: datetime


def read_page(content: bytes) -> Page:
    """A page of the feed. Raises ChainBroken for what is none."""
    try:
        value = orjson.loads(content)
        events = [event_from_json(each) for each in value["events"]]
        head = head_from_json(value["head"]) if value["head"] is not None else None
        through = datetime.fromisoformat(value["through"])
    except (ValueError, KeyError, TypeError) as error:
        raise ChainBroken("not a page of the feed") from error
    if through.tzinfo is None or bool(events) != (head is not None):
        raise ChainBroken("not a page of the feed")
    return Page(events, head, through)
