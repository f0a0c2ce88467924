"""Sealing and opening record versions: envelopes, key rings and blind indexes put together.

What is sealed here is bound to record, field and version; the data key is wrapped under the open epoch of the
record's ring, which is made, durable in the provider, before a row may name it.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.policy import Policy
from dossier_records import envelopes, repository, rules
from dossier_records.envelopes import Sealed
from dossier_records.keyring import FileKeyring


class Vault:
    """The keys of this process."""

    def __init__(self, keyring: FileKeyring, cipher: str, buckets: int, policy: Policy) -> None:
        self.keyring, self._cipher, self._buckets = keyring, cipher, buckets
        self._index_key = keyring.index_key()
        self._indexed = frozenset(field.id for field in policy.fields if field.indexed)

    def ring_of(self, level: str, record: UUID) -> str:
        """The key ring of a record."""
        return rules.ring_of(level, record, self._buckets)

    def seal_under(self, ring: str, epoch: int, record: UUID, version: int, fields: Mapping[str, str]) -> Sealed:
        """Seals a version under an epoch that the caller knows to be open."""
        data_key = envelopes.new_key(self._cipher)
        sealed = envelopes.seal(self._cipher, data_key, record, version, fields)
        wrapped = self.keyring.wrap(ring, epoch, data_key, bound_to(record, version))
        return Sealed(ring, epoch, wrapped, sealed)

    def seal_beside(self, kept: Sealed, record: UUID, version: int, fields: Mapping[str, str]) -> bytes:
        """Seals more under the data key of a version, with which it is re-wrapped and destroyed."""
        data_key = self.keyring.unwrap(kept.ring, kept.key_epoch, kept.wrapped_key, bound_to(record, version))
        return envelopes.seal(self._cipher, data_key, record, version, fields)

    async def open_epoch(self, session: AsyncSession, ring: str) -> int:
        """The ring's open epoch, held open for this transaction; a new ring gets its first.

        Whoever waited for an epoch that closed meanwhile finds none at first, and the next one when he looks again.
        """
        epoch = await repository.open_epoch(session, ring)
        if epoch is None and not await repository.ring_is_known(session, ring):
            self.keyring.create(ring, 1)
            await repository.add_first_epoch(session, ring)
        if epoch is None:
            epoch = await repository.open_epoch(session, ring)
        assert epoch is not None
        return epoch

    async def open_epochs(self, session: AsyncSession, rings: Collection[str]) -> dict[str, int]:
        """As `open_epoch`, for many rings at once."""
        found = await repository.open_epochs(session, rings)
        return found | {ring: await self.open_epoch(session, ring) for ring in sorted(set(rings).difference(found))}

    def open(self, record: UUID, version: int, kept: Sealed, wanted: Collection[str]) -> dict[str, str]:
        """The wanted fields in the clear; the caller has committed the record of it first (invariant 1).

        Raises CannotOpen, KeyDestroyed.
        """
        data_key = self.keyring.unwrap(kept.ring, kept.key_epoch, kept.wrapped_key, bound_to(record, version))
        return envelopes.unseal(data_key, record, version, kept.sealed, wanted)

    def indexes(self, fields: Mapping[str, str]) -> dict[str, bytes]:
        """The blind indexes of normalised values."""
        return {name: self.index(name, value) for name, value in fields.items() if name in self._indexed}

    def index(self, field: str, value: str) -> bytes:
        """The blind index of one normalised value."""
        return envelopes.blind(self._index_key, field, value)

    def digest(self, content: bytes) -> str:
        """A keyed digest, for events that must name a content without telling it."""
        return envelopes.blind(self._index_key, "digest", content.hex()).hex()

    def spool(self, name: UUID, content: bytes) -> bytes:
        """Seals an upload under a key of its own, which `forget` destroys."""
        ring = spool_ring(name)
        self.keyring.create(ring, 1)
        return self.keyring.wrap(ring, 1, content, name.bytes)

    def unspool(self, name: UUID, sealed: bytes) -> bytes:
        """The upload. Raises CannotOpen."""
        return self.keyring.unwrap(spool_ring(name), 1, sealed, name.bytes)

    def forget(self, name: UUID) -> None:
        """The upload can be read no more, wherever its bytes are."""
        self.keyring.destroy(spool_ring(name), 1)

    def spooled(self) -> list[UUID]:
        """The uploads whose keys are there."""
        return [UUID(ring.removeprefix("spool-")) for ring in self.keyring.rings("spool-")]


def spool_ring(name: UUID) -> str:
    """The ring of one upload."""
    return f"spool-{name}"


def bound_to(record: UUID, version: int) -> bytes:
    """What a wrapped data key belongs to."""
    return record.bytes + version.to_bytes(4, "big")
