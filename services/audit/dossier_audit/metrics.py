"""Metrics of the audit service's worker: how large the log is, how far its checkpoints came outside."""

from collections.abc import Sequence
from typing import Final

from dossier_audit.repository import logs
from dossier_audit.witness import WitnessClient
from dossier_common.database import Database
from dossier_common.metrics import counter, gauge

WITNESS_FAILURES: Final = counter("dossier_witness_failures", "Times that a witness gave no cosignature", "{time}")
_SIGNED: Final = gauge("dossier_log_signed", "Leaves under the newest signed checkpoint", "{leaf}")
_SHOWN: Final = gauge("dossier_log_shown", "Leaves under the newest checkpoint that has a copy outside", "{leaf}")
_GENERATION: Final = gauge("dossier_log_generation", "More than 1: the database was restored", "{log}")
_UNWITNESSED: Final = gauge("dossier_witness_behind", "Leaves that a witness has not cosigned", "{leaf}")


async def measure(database: Database, witnesses: Sequence[WitnessClient]) -> None:
    """Sets the gauges from what the database says now."""
    async with database.session() as session:
        signed, shown = await logs.newest_signed(session), await logs.newest_of_all(session)
        if signed is None or shown is None:
            return
        _SIGNED.set(signed.size)
        _SHOWN.set(shown.size)
        _GENERATION.set(signed.generation)
        for witness in witnesses:
            cosigned = await logs.cosigned_size(session, signed.generation, witness.name)
            _UNWITNESSED.set(signed.size - cosigned, {"witness": witness.name})
