"""The operator's way past events that nobody has any more: `dossier accept-gap PRODUCER ORDER`.

After a restore from a backup that is older than what producers keep (`outbox_keep_days`), or without one, the log lacks
events that their producer has pruned: its feed says so with 410, and ingesting stands still. The producer then begins
a new epoch with all that it still has. That the log goes on there, without what was between, somebody decides; the
decision is an event that names the gap and the order. The verifier keeps saying where the former epoch ends.
"""

from dossier_audit.rules import ensure_reference
from dossier_common import cursors, outbox
from dossier_common.clock import Clock
from dossier_common.contracts.audit import GapAccepted
from dossier_common.cursors import Cursor
from dossier_common.database import Database
from dossier_common.peers import Peers
from dossier_common.problems import EventsPruned, UpstreamUnavailable
from dossier_common.scopes import Scope


class NoGap(Exception):
    """The producer has all that the log needs next."""


class NotAnew(Exception):
    """The producer has not begun a new epoch yet; its relay does within a minute."""


async def accept(database: Database, peers: Peers, producer: str, order: str, clock: Clock) -> GapAccepted:
    """Moves the cursor to the epoch that the producer has begun behind the gap; returns what was recorded.

    The cursor is locked meanwhile: nothing is taken in. Raises NoReference, NoGap, NotAnew, UpstreamUnavailable.
    """
    ensure_reference(order)
    async with database.transaction() as session:
        known = await cursors.locked_cursor(session, producer, clock)
        answer = await peers.get(producer, "/internal/v1/feed", Scope.EVENTS_PULL, epoch=known.epoch, after=known.seq)
        if answer.status_code == 200:
            raise NoGap
        if answer.status_code != EventsPruned.status:
            raise UpstreamUnavailable(f"The feed of {producer} answers {answer.status_code}.")
        oldest = answer.json()["oldest"]
        if oldest["seq"] != 1:
            raise NotAnew
        accepted = GapAccepted(
            producer=producer, epoch=known.epoch, seq=known.seq, next_epoch=oldest["epoch"], order=order
        )
        await cursors.write_cursor(session, producer, Cursor(oldest["epoch"]), clock)
        await outbox.add(session, accepted, by=None, at=clock.now())
    return accepted
