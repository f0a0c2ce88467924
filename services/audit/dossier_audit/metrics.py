"""Metrics of the audit service's worker: how large the log is, how far its checkpoints came outside."""

from typing import Final

from dossier_audit.log.notes import NoteKey
from dossier_audit.repository import logs
from dossier_audit.settings import Settings
from dossier_common.metrics import counter, gauge
from dossier_common.worker import Context

WITNESS_FAILURES: Final = counter("dossier_witness_failures", "Times that a witness gave no cosignature", "{time}")
_SIGNED: Final = gauge("dossier_log_signed", "Leaves under the newest signed checkpoint", "{leaf}")
_SHOWN: Final = gauge("dossier_log_shown", "Leaves under the newest checkpoint that has a copy outside", "{leaf}")
_GENERATION: Final = gauge("dossier_log_generation", "More than 1: the database was restored", "{log}")
_UNWITNESSED: Final = gauge("dossier_witness_behind", "Leaves that a witness has not cosigned", "{leaf}")


async def measure(context: Context) -> None:
    """Sets the gauges from what the database says now."""
    assert isinstance(context.settings, Settings)
    async with context.database.session() as session:
        signed, shown = await logs.newest_signed(session), await logs.newest_of_all(session)
        if signed is None or shown is None:
            return
        _SIGNED.set(signed.size)
        _SHOWN.set(shown.size)
        _GENERATION.set(signed.generation)
        for witness in context.settings.witnesses:
            name = NoteKey.read(witness.vkey).name
            cosigned = await logs.cosigned_size(session, signed.generation, name)
            _UNWITNESSED.set(signed.size - cosigned, {"witness": name})
