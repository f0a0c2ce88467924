"""The catalogue: what can go wrong, a row each. How often, and in which variants."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from typing import Final

from tests.faults import messages
from tests.faults.client import Kind
from tests.faults.injector import WEBS, WORKERS, NotInjected, wait_until
from tests.faults.rounds import Act, Fault, Rig

HOUR: Final = 3600.0


def killed(*processes: str) -> Act:
    async def act(rig: Rig, _chance: random.Random) -> None:
        await rig.injector.kill(*processes)

    return act


def killed_at(process: str, point: str) -> Act:
    async def act(rig: Rig, chance: random.Random) -> None:
        await rig.injector.kill_at(process, point, passes=chance.randrange(4))

    return act


def stopped(process: str) -> Act:
    async def act(rig: Rig, chance: random.Random) -> None:
        async with rig.injector.stopped(process):
            await asyncio.sleep(chance.uniform(1.5, 3.0))

    return act


def clock_off(part: str, seconds: float) -> Act:
    async def act(rig: Rig, chance: random.Random) -> None:
        async with rig.injector.clock(part, seconds):
            await asyncio.sleep(chance.uniform(1.5, 3.0))

    return act


async def store_lost(rig: Rig, _chance: random.Random) -> None:
    with rig.injector.nobody_starts():
        await rig.injector.kill("nats")
        rig.injector.lose_nats_store()


async def store_lost_while_audit_is_down(rig: Rig, chance: random.Random) -> None:
    """What was published meanwhile is nowhere but with the producers."""
    with rig.injector.nobody_starts():
        await rig.injector.kill("audit-worker")
        await asyncio.sleep(chance.uniform(0.5, 1.5))
        await rig.injector.kill("nats")
        rig.injector.lose_nats_store()


async def nats_full(rig: Rig, chance: random.Random) -> None:
    """A stream that could not be written stays closed until the server is started again: that is the operator's."""
    disk, said = rig.injector.disks["nats"], rig.injector.listen("nats")
    disk.fill()
    try:
        await wait_until(lambda: said("no space left on device"), "NATS without room")
        await asyncio.sleep(chance.uniform(0.5, 1.5))
    finally:
        disk.free()
    await rig.injector.kill("nats")


async def postgres_full(rig: Rig, chance: random.Random) -> None:
    """No table grows any more; PostgreSQL itself goes on."""
    disk, said = rig.injector.disks["postgres"], rig.injector.listen("postgres")
    disk.fill()
    try:
        async with asyncio.timeout(45):
            while not said("No space left on device"):
                await asyncio.to_thread(rig.injector.grow_table)
        await asyncio.sleep(chance.uniform(1.5, 3.0))
    finally:
        disk.free()


async def postgres_full_of_its_log(rig: Rig, chance: random.Random) -> None:
    """PostgreSQL cannot write its log, ends at once, and cannot recover either before there is room.

    Where nobody gets as far as to write to it any more, it has said of something else that there is no room.
    """
    disk, said = rig.injector.disks["postgres"], rig.injector.listen("postgres")
    disk.fill()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(15):
                while not said("PANIC"):
                    await asyncio.to_thread(rig.injector.next_segment)
        if not said("PANIC"):
            await wait_until(lambda: said("No space left on device"), "PostgreSQL without room")
        await asyncio.sleep(chance.uniform(0.5, 1.5))
    finally:
        disk.free()


async def redelivered(rig: Rig, chance: random.Random) -> None:
    """What was delivered comes again, in reverse order, under other message ids."""
    known = await messages.numbered(rig.stack, "records", last=chance.randrange(20, 80))
    await rig.injector.publish_as("records", messages.under_new_ids(reversed(known), chance))


async def reordered(rig: Rig, chance: random.Random) -> None:
    """What was numbered and not yet published comes in reverse order, twice, and then a third time from its relay."""
    for _ in range(50):
        async with rig.injector.stopped_at("records-worker", "relay.numbered"):
            fresh = await messages.unpublished(rig.stack, "records")
            if len(fresh) > 1:
                for _ in range(2):
                    await rig.injector.publish_as("records", messages.under_new_ids(reversed(fresh), chance))
                return
    raise NotInjected("never two events at once")


def producer_restored(part: str) -> Act:
    async def act(rig: Rig, chance: random.Random) -> None:
        await rig.quiet()
        rig.injector.back_up(part)
        kept = len(rig.traffic.acknowledged)
        rig.traffic.start()
        await asyncio.sleep(chance.uniform(1.0, 2.0))
        await rig.quiet()
        rig.excused = [each for each in rig.traffic.acknowledged[kept:] if each.kind.producer == part]
        if not rig.excused:
            raise NotInjected("nothing was acknowledged after the backup")
        gone = {each.key for each in rig.excused if each.kind is Kind.REGISTERED}
        rig.gone |= gone
        rig.traffic.forget(gone)
        await rig.injector.restore(part)
        rig.traffic.start()

    return act


async def audit_restored(rig: Rig, chance: random.Random) -> None:
    """What the producers had delivered since the backup comes again from them.

    The auditor queries nothing between: those events are in the restored database alone, and are lost with it.
    """
    await rig.quiet()
    rig.injector.back_up("audit")
    rig.traffic.start(without=Kind.QUERIED)
    await asyncio.sleep(chance.uniform(1.0, 2.0))
    await rig.quiet()
    await rig.injector.restore("audit")
    rig.checker.start_again()
    rig.traffic.start()


def _at(point: str, *processes: str) -> Sequence[Act]:
    return [killed_at(process, point) for process in processes]


_RELAYS = ("records-worker", "gateway-worker", "audit-worker")
_FOLLOWERS = ("audit-worker", "retention-worker", "approvals-worker")
_RECORDING = ("records-web", "gateway-web", "audit-web")
_PARTS = ("records", "audit", "gateway")

FAULTS: Final[Sequence[Fault]] = (
    Fault("kill -9 of a web process", [killed(web) for web in WEBS], 15),
    Fault("kill -9 of a worker", [killed(worker) for worker in WORKERS], 15),
    Fault("kill -9 of the witness", [killed("witness")], 4, short=0),
    Fault("kill -9 of all parts at once", [killed(*WEBS, *WORKERS)], 6),
    Fault("kill -9 of a relay after its commit, before it publishes", _at("relay.numbered", *_RELAYS), 12),
    Fault("kill -9 of a relay within a batch", _at("relay.in-batch", "records-worker"), 8),
    Fault("kill -9 of a relay after it published, before it marks", _at("relay.published", *_RELAYS), 12),
    Fault("kill -9 of a follower before its commit", _at("consumer.before-commit", *_FOLLOWERS), 9, short=0),
    Fault("kill -9 of a follower after its commit, before it acknowledges", _at("consumer.committed", *_FOLLOWERS), 9),
    Fault("kill -9 of audit before the receipt", _at("receipt.before", "audit-worker"), 8),
    Fault("kill -9 of a web process before its commit", _at("web.before-commit", *_RECORDING), 9, short=0),
    Fault("kill -9 of a web process after its commit, before the answer", _at("web.committed", *_RECORDING), 9),
    Fault("kill -9 of records before the commit of readings", _at("reading.before-commit", "records-web"), 8, short=0),
    Fault("kill -9 of records after the commit of readings", _at("reading.committed", "records-web"), 8),
    Fault("kill -9 of PostgreSQL", [killed("postgres")], 10),
    Fault("kill -9 of NATS", [killed("nats")], 10),
    Fault("kill -9 of NATS, rm -rf of its store", [store_lost], 8, short=0),
    Fault("loss of the NATS store while audit is down", [store_lost_while_audit_is_down], 6),
    Fault("SIGSTOP of audit", [stopped("audit-worker"), stopped("audit-web")], 8),
    Fault("SIGSTOP of a relay", [stopped("records-worker"), stopped("gateway-worker")], 6, short=0),
    Fault("SIGSTOP of PostgreSQL", [stopped("postgres")], 5),
    Fault("NATS store full", [nats_full], 4, mounts=True),
    Fault("PostgreSQL disk full", [postgres_full_of_its_log, postgres_full], 4, mounts=True),
    Fault("clock an hour ahead or back", [clock_off(*each) for each in product(_PARTS, (HOUR, -HOUR))], 12),
    Fault("delivery again, in reverse order", [redelivered], 5),
    Fault("delivery out of order", [reordered], 5),
    Fault("records restored from an older backup", [producer_restored("records")], 4, restored="records"),
    Fault("gateway restored from an older backup", [producer_restored("gateway")], 3, short=0, restored="gateway"),
    Fault("audit restored from an older backup", [audit_restored], 4, restored="audit"),
)
