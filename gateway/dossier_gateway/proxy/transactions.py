"""Txn-Tokens for calls: signed once and reused for the same access token, address and part, within their life."""

import time
from typing import Any

from cachetools import LRUCache

from dossier_common.clock import Clock
from dossier_common.ids import new_id
from dossier_gateway.callers import Caller, Standing
from dossier_gateway.settings import Settings
from dossier_gateway.tokens import Tokens

REUSE_SECONDS = 4.0


class Transactions:
    """Mints and keeps Txn-Tokens. One that was minted before the directory changed is not used again."""

    def __init__(self, settings: Settings, tokens: Tokens, clock: Clock) -> None:
        self._settings, self._tokens, self._clock = settings, tokens, clock
        self._kept: LRUCache[tuple[str, str, str], tuple[str, float, Standing]] = LRUCache(16_384)

    def token(self, access_token: str, caller: Caller, address: str, part: str) -> str:
        """A Txn-Token that holds for at least another second."""
        key = (access_token, address, part)
        now = time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and kept[1] > now and kept[2] is caller.standing:
            return kept[0]
        token = self._tokens.txn(self._clock.now(), part, self._claims(caller, address))
        self._kept[key] = (token, now + REUSE_SECONDS, caller.standing)
        return token

    def _claims(self, caller: Caller, address: str) -> dict[str, Any]:
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
            "rctx": {"address": address, "zone": self._settings.zone_of(address)},
        }
        if subject.person:
            claims["person"] = str(subject.person)
        return claims
