"""Which parts there are, and who follows whose events. Source: ARCHITECTURE.md, "Events"."""

from typing import Final

PARTS: Final = ("gateway", "records", "approvals", "retention", "audit")

FOLLOWS: Final[dict[str, tuple[str, ...]]] = {
    "gateway": (),
    "records": ("gateway", "approvals", "retention"),
    "approvals": ("gateway", "records", "retention"),
    "retention": ("gateway", "records", "approvals"),
    "audit": ("gateway", "records", "approvals", "retention"),
}

PUBLISHERS: Final = ("gateway", "records", "approvals", "retention")
"""The parts that publish to JetStream. The audit service takes its own events in without a broker between."""


def stream(producer: str) -> str:
    """Name of the producer's JetStream stream."""
    return producer.upper()


def subjects(producer: str) -> str:
    """All subjects of one producer."""
    return f"{producer}.v1.>"


def inbox_prefix(part: str) -> str:
    """Prefix of the reply subjects that only this part's NATS user may subscribe to."""
    return f"_INBOX_{part}"


def receipt_subject(producer: str) -> str:
    """Core NATS subject on which the audit service acknowledges this producer's events."""
    return f"audit.receipts.{producer}"


def heartbeat_subject(producer: str) -> str:
    """Core NATS subject of this producer's heartbeats."""
    return f"{producer}.heartbeat"
