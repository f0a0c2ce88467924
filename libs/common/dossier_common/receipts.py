"""Receipts: how far a producer's events are durable at the audit service, signed by it.

They are cumulative per producer and epoch, and no events of the log. What is signed is a domain line and canonical
JSON, as with heads. Source: ARCHITECTURE.md, "Receipts".
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from dossier_common.canonical import canonical
from dossier_common.events import instant
from dossier_common.keys import SigningKey, VerifyingKeys

_DOMAIN = b"dossier-receipt-v1\n"


class ReceiptForged(ValueError):
    """Not a receipt for this producer that the audit service signed."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """All events of `producer` up to (epoch, seq) are durable; `hash` is that of the leaf there, `at` RFC 3339."""

    producer: str
    epoch: int
    seq: int
    hash: bytes
    at: str
    signature: bytes

    @classmethod
    def sign(cls, key: SigningKey, producer: str, epoch: int, seq: int, leaf_hash: bytes, at: datetime) -> Self:
        """A receipt with the audit service's signature."""
        unsigned = cls(producer, epoch, seq, leaf_hash, instant(at), b"")
        return cls(producer, epoch, seq, leaf_hash, unsigned.at, key.sign(unsigned.message()))

    def message(self) -> bytes:
        """What is signed."""
        return _DOMAIN + canonical(self._said())

    def to_json(self) -> dict[str, Any]:
        """As it travels: hash in hex, signature in base64."""
        return self._said() | {"signature": b64encode(self.signature).decode()}

    @classmethod
    def verified(cls, value: Any, producer: str, keys: VerifyingKeys) -> Self:
        """The receipt that travelled as `value`. Raises ReceiptForged, for the receipt of another producer too."""
        try:
            receipt = cls(
                str(value["producer"]),
                int(value["epoch"]),
                int(value["seq"]),
                bytes.fromhex(value["hash"]),
                str(value["at"]),
                b64decode(value["signature"], validate=True),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ReceiptForged("not a receipt") from error
        if receipt.producer != producer or not keys.holds(receipt.signature, receipt.message()):
            raise ReceiptForged(f"not a receipt for {producer}")
        return receipt

    def _said(self) -> dict[str, Any]:
        return {
            "producer": self.producer,
            "epoch": self.epoch,
            "seq": self.seq,
            "hash": self.hash.hex(),
            "at": self.at,
        }
