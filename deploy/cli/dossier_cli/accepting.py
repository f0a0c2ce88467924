"""The audit service's own parts, as `dossier accept-gap` needs them."""

from dossier_audit import gaps
from dossier_audit.settings import Settings
from dossier_common.clock import SystemClock
from dossier_common.contracts.audit import GapAccepted
from dossier_common.database import Database
from dossier_common.keys import SigningKey
from dossier_common.peers import Peers
from dossier_common.settings import load


async def accept(producer: str, order: str) -> GapAccepted:
    """By the settings of the audit service. Ends the process with one line where those are not valid."""
    settings, clock = load(Settings), SystemClock()
    database = Database(settings)
    key = SigningKey.read(settings.signing_key_file)
    try:
        async with Peers("audit", key, settings.common, clock, settings.tls.client) as peers:
            return await gaps.accept(database, peers, producer, order, clock)
    finally:
        await database.close()
