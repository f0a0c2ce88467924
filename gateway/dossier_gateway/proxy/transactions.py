"""Txn-Tokens for calls: signed once and reused for the same access token, address and part, within their life."""

import time
from typing import Any

from dossier_common.clock import Clock
from dossier_common.ids import new_id
from dossier_gateway.callers import Caller
from dossier_gateway.tokens import Tokens

REUSE_SECONDS = 4.0
MOST = 64
"""Pairs of address and part that are kept for one caller."""


class Transactions:
    """Mints Txn-Tokens. They are kept with the caller, who is another one when the directory changes."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens, self._clock = tokens, clock

    def token(self, caller: Caller, address: str, zone: str, part: str) -> bytes:
        """A Txn-Token that holds for at least another second."""
        now = time.monotonic()
        kept = caller.transactions.get((address, part))
        if kept is not None and kept[1] > now:
            return kept[0]
        if len(caller.transactions) >= MOST:
            caller.transactions.clear()
        token = self._tokens.txn(self._clock.now(), part, self._claims(caller, address, zone)).encode("ascii")
        caller.transactions[address, part] = token, now + REUSE_SECONDS
        return token

    def _claims(self, caller: Caller, address: str, zone: str) -> dict[str, Any]:
        subject = caller.subject
        claims: dict[str, Any] = {
            "sub": str(subject.account) if subject.account else subject.client,
            "azp": subject.client,
            "scope": " ".join(sorted(subject.scopes)),
            "txn": str(new_id()),
            "tctx": {
                "units": sorted(map(str, subject.units)),
                "roles": [{"role": held.role, "unit": str(held.unit)} for held in subject.roles],
                "clearance": subject.clearance,
                "qualifications": sorted(subject.qualifications),
            },
            "rctx": {"address": address, "zone": zone},
        }
        if subject.person:
            claims["person"] = str(subject.person)
        return claims
