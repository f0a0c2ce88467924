"""What lies outside the database: witnesses that come and go, and a database that was set back."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from tests.audit.log_world import ProofFile, World, world
from tests.audit.test_log_tree import included
from tests.support.waiting import eventually, running

from dossier_audit import rules
from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint, NoteKey
from dossier_audit.log.tree import leaf_hash
from dossier_audit.publication import Witnessed, publish
from dossier_audit.settings import WitnessSettings
from dossier_audit.silence import look
from dossier_audit.witness import WitnessClient
from dossier_common.clock import SystemClock
from dossier_local import cluster as servers
from dossier_local.cluster import Cluster
from dossier_witness.app import application
from dossier_witness.note import Cosigner, Verifier
from dossier_witness.store import Store
from dossier_witness.witness import Witness

NAME = "witness.example/w"


@pytest.fixture(scope="module")
def fresh_cluster() -> Iterator[Cluster]:
    with servers.temporary() as running_servers:
        running_servers.postgres.psql("CREATE DATABASE pristine TEMPLATE dossier_audit")
        yield running_servers


@pytest.fixture
def own_cluster(fresh_cluster: Cluster) -> Cluster:
    """Servers on which the audit service's database is as empty as after its migrations."""
    replace(fresh_cluster, "pristine")
    return fresh_cluster


def replace(cluster: Cluster, template: str) -> None:
    """Puts a copy of another database in the place of the audit service's, as a restore does."""
    cluster.postgres.psql("DROP DATABASE IF EXISTS dossier_audit WITH (FORCE)")
    cluster.postgres.psql(f"CREATE DATABASE dossier_audit TEMPLATE {template}")


@dataclass
class Elsewhere(httpx.AsyncBaseTransport):
    """A real witness elsewhere: it can be away, and it can lie."""

    app: httpx.ASGITransport
    away: bool = False
    lies: dict[str, httpx.Response] = field(default_factory=dict)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("away")
        lie = self.lies.get(request.method)
        return lie if lie is not None else await self.app.handle_async_request(request)


@asynccontextmanager
async def witnessed(kept: World, folder: Path) -> AsyncIterator[Elsewhere]:
    """Gives the world a witness that knows its first log."""
    cosigner = Cosigner(NAME, Ed25519PrivateKey.generate())
    Store.create(folder / "state.sqlite", cosigner.vkey)
    store = Store.open(folder / "state.sqlite")
    origin = kept.settings.log_address
    known = {origin: [Verifier.parse(notes.key_of(origin, kept.key).vkey())]}
    app = application(Witness(cosigner, known, store, lambda: int(SystemClock().now().timestamp())), store)
    elsewhere = Elsewhere(httpx.ASGITransport(app))
    async with httpx.AsyncClient(transport=elsewhere) as http:
        settings = WitnessSettings(url="http://witness.example", vkey=cosigner.vkey)
        kept.witnesses = [WitnessClient(settings, http)]
        yield elsewhere
    store.close()


def copies_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def asking(kept: World) -> Witnessed:
    return Witnessed(kept.worker.database, kept.worker.clock, kept.witnesses[0], kept.outside())


async def said(kept: World, kind: str) -> int:
    return await kept.count(f"SELECT count(*) FROM outbox WHERE type = 'audit.v1.{kind}'")


async def shown(kept: World, number: int) -> None:
    await kept.ingested(number)
    async with kept.logging():
        await kept.all_shown()


async def test_a_witness_cosigns_is_lost_and_returns_and_the_log_goes_on(own_cluster: Cluster, tmp_path: Path) -> None:
    async with world(own_cluster, tmp_path) as kept, witnessed(kept, tmp_path) as elsewhere:
        await shown(kept, 300)
        job = asking(kept)
        assert await job.once() == 5.0
        note = (await kept.get("/v1/audit/log/checkpoint")).text
        key = kept.witnesses[0].key
        assert len(notes.signatures_by(key, note)) == 1
        assert NoteKey.read(key.vkey()) == key
        elsewhere.away = True
        for number in range(1, 5):
            await shown(kept, 2)
            assert await job.once() == 2.0**number
        assert await said(kept, "witness.lost") == 1
        uncosigned = await kept.checkpoint()
        assert uncosigned.size == 301
        newest = await kept.count("SELECT max(size) FROM log_publications")
        assert newest == 309
        elsewhere.away = False
        assert await job.once() == 5.0
        assert await said(kept, "witness.returned") == 1
        assert (await kept.checkpoint()).size == 309
        forgetful = asking(kept)
        await shown(kept, 1)
        assert await forgetful.once() == 5.0
        assert (await kept.checkpoint()).size == 310


async def test_a_checkpoint_without_cosignatures_is_shown_when_the_cosigned_one_is_old(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    async with world(own_cluster, tmp_path) as kept, witnessed(kept, tmp_path):
        await shown(kept, 3)
        await asking(kept).once()
        await shown(kept, 3)
        assert (await kept.checkpoint()).size == 4

        class Later(SystemClock):
            def now(self) -> datetime:
                return super().now() + timedelta(seconds=11)

        kept.app.state.clock = Later()
        token = kept.headers()
        kept.app.state.clock = Later()
        answer = await kept.client.get("/v1/audit/log/checkpoint", headers=token)
        assert Checkpoint.opened(answer.text, notes.key_of(kept.settings.log_address, kept.key)).size == 7


@pytest.mark.invariant(3)
async def test_a_lying_witness_is_an_alarm_and_opens_no_other_log(own_cluster: Cluster, tmp_path: Path) -> None:
    async with world(own_cluster, tmp_path) as kept, witnessed(kept, tmp_path) as elsewhere:
        await shown(kept, 3)
        origin = kept.settings.log_address
        forged = notes.sign(Checkpoint(origin, 1000, bytes(32)).text(), origin, kept.worker.key)
        for lie, shows in (
            (httpx.Response(409, text="1000\n"), httpx.Response(404)),
            (httpx.Response(409, text="1000\n"), httpx.Response(200, text=forged)),
            (httpx.Response(422), httpx.Response(404)),
        ):
            elsewhere.lies = {"POST": lie, "GET": shows}
            assert await asking(kept).once() > 1
        for status in (409, 400, 403, 404, 500, 200, 302):
            elsewhere.lies = {"POST": httpx.Response(status, text="nonsense\n")}
            assert await asking(kept).once() > 1
        assert await said(kept, "witness.disputed") == 3
        elsewhere.lies = {}
        await shown(kept, 3)
        assert await kept.count("SELECT max(generation) FROM logs") == 1


@pytest.mark.invariant(3)
async def test_what_a_witness_remembers_of_a_lost_database_opens_another_log(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    """The copies are lost with the database, and the witness is away while the log starts anew."""
    copies = tmp_path / "copies"
    copies.mkdir()
    async with world(own_cluster, copies) as kept, witnessed(kept, tmp_path) as elsewhere:
        await shown(kept, 20)
        await asking(kept).once()
        lost, sent, witnesses = await kept.checkpoint(), kept.sent, kept.witnesses
        (copies / "log-1.checkpoint").unlink()
        elsewhere.away = True
        await kept.worker.database.close()
        replace(own_cluster, "pristine")
        async with world(own_cluster, copies) as anew:
            anew.witnesses = witnesses
            outside = anew.outside()
            publication = publish(anew.worker.database, anew.worker.clock, outside)
            async with running(anew.sequencer(outside).run(), publication):
                await anew.refill(sent)
                await eventually(lambda: anew.count("SELECT max(size) FROM log_publications"), 21)
                elsewhere.away = False
                job = Witnessed(anew.worker.database, anew.worker.clock, witnesses[0], outside)
                assert await job.once() == 0.0, "the witness remembers more than nothing"
                assert await job.once() > 1
                await eventually(lambda: anew.count("SELECT max(generation) FROM logs"), 2)
            before = (await anew.get("/v1/audit/logs")).json()["logs"][1]["predecessor"]
            assert before == {"origin": lost.origin, "size": 21, "root": lost.root.hex()}
            assert await said(anew, "witness.disputed") == 0


@pytest.mark.invariant(3)
@pytest.mark.invariant(2)
async def test_a_database_that_was_set_back_opens_a_log_that_names_the_lost_checkpoint(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    async with world(own_cluster, tmp_path) as kept:
        await shown(kept, 20)
        chain, sent = kept.chain, kept.sent
    own_cluster.postgres.psql("CREATE DATABASE backup TEMPLATE dossier_audit")
    async with world(own_cluster, tmp_path) as kept:
        kept.chain, kept.sent = chain, sent
        await shown(kept, 30)
        lost = await kept.checkpoint()
    replace(own_cluster, "backup")
    async with world(own_cluster, tmp_path) as kept:
        kept.chain = chain
        async with kept.logging():
            await kept.refill(sent)
            await kept.all_shown()
        old = await kept.checkpoint()
        new = await kept.checkpoint(2)
        assert (lost.size, old.size, new.size) == (51, 21, 31)
        assert new.origin == rules.origin(lost.origin, 2) == f"{lost.origin}s/2"
        first, second = (await kept.get("/v1/audit/logs")).json()["logs"]
        assert (first["state"], second["state"]) == ("closed", "open")
        named = {"origin": lost.origin, "size": lost.size, "root": lost.root.hex()}
        assert second["predecessor"] == named
        assert orjson.loads(second["opened"]["body"])["data"] == {
            "generation": 2,
            **{f"predecessor_{name}": value for name, value in named.items()},
        }
        assert await said(kept, "log.restored") == 1
        assert await kept.count("SELECT epoch FROM outbox_state") == 2
        assert await kept.count("SELECT sum(count) FROM log_runs WHERE producer = 'retention'") == 50
        assert await kept.count("SELECT count(*) FROM leaves WHERE producer = 'retention'") == 50
        await shown(kept, 3)
        assert (await kept.checkpoint(2)).size == 34
        assert await kept.count("SELECT count(*) FROM logs") == 2
        async with kept.worker.database.session() as session:
            query = text("SELECT id FROM leaves WHERE producer = 'retention' ORDER BY seq DESC LIMIT 1")
            event = (await session.execute(query)).scalar_one()
        proof = ProofFile.read((await kept.get(f"/v1/audit/events/{event}/proof")).text)
        signed = Checkpoint.opened(proof.note, notes.key_of(new.origin, kept.key))
        assert included(proof.index, signed.size, leaf_hash(proof.extra), proof.hashes) == signed.root
        entries = await kept.get("/v1/audit/logs/2/tile/entries/000.p/34")
        assert b'"producer":"log"' in entries.content[:400]
        await kept.get("/v1/audit/logs/2/tile/0/000.p/35", status=404)
        await kept.get("/v1/audit/logs/3/checkpoint", status=404)


@pytest.mark.invariant(3)
async def test_an_empty_database_beside_old_copies_opens_a_log_that_names_them(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    async with world(own_cluster, tmp_path) as kept:
        address = kept.settings.log_address
        for generation, size in ((1, 40), (2, 7)):
            checkpoint = Checkpoint(rules.origin(address, generation), size, bytes(32))
            note = notes.sign(checkpoint.text(), checkpoint.origin, kept.key)
            (tmp_path / f"log-{generation}.checkpoint").write_text(note)
        await shown(kept, 1)
        (only,) = (await kept.get("/v1/audit/logs")).json()["logs"]
        assert only["generation"] == 3
        assert only["predecessor"] == {"origin": f"{address}s/2", "size": 7, "root": "00" * 32}
        assert copies_in(tmp_path) == {f"log-{n}.checkpoint" for n in (1, 2, 3)}


async def test_silence_of_a_producer_is_said_once_and_so_is_its_return(own_cluster: Cluster, tmp_path: Path) -> None:
    async with world(own_cluster, tmp_path) as kept:
        database, clock = kept.worker.database, kept.worker.clock
        silent: set[str] = set()
        await kept.ingested(1)
        for _ in range(2):
            await look(database, clock, 60, silent)
        assert await said(kept, "producer.silent") == 4
        async with database.transaction() as session:
            query = text("UPDATE cursors SET fresh_at = :now WHERE producer = 'retention'")
            await session.execute(query, {"now": clock.now()})
        for _ in range(2):
            await look(database, clock, 60, silent)
        assert await said(kept, "producer.heard") == 1
        assert silent == {"gateway", "records", "approvals"}
