"""Programs that others wrote for such logs accept this one through the gateway, and refuse each tampered copy of it."""

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.peers.conftest import Audit
from tests.peers.mirror import size_of
from tests.peers.programs import Peers

from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint, NoteKey
from dossier_common.keys import SigningKey
from dossier_local.client import until

PROOFS = 24
FROM_THE_SAME_SEED = 6962


def other(vkey: str) -> str:
    """A vkey of the same name and kind, of another key."""
    known = NoteKey.read(vkey)
    return NoteKey(known.name, known.kind, SigningKey.generate().public_bytes()).vkey()


def flipped(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(8 * len(content))
    return bytes(byte ^ (1 << at % 8 if place == at // 8 else 0) for place, byte in enumerate(content))


def with_flipped(line: str, chance: random.Random, *, after: int = 0) -> str:
    """The line, one bit of the base64 at its end changed, behind so many bytes of it."""
    before, _, last = line.rpartition(" ")
    content = b64decode(last)
    changed = b64encode(content[:after] + flipped(content[after:], chance)).decode()
    return f"{before} {changed}" if before else changed


def tampered(proof: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Copies of a `.tlog-proof` with one thing changed, and what that is."""
    lines = proof.split("\n")
    end = lines.index("")
    index, size = int(lines[2].removeprefix("index ")), int(lines[end + 2])

    def replaced(at: int, line: str) -> str:
        return "\n".join([*lines[:at], line, *lines[at + 1 :]])

    yield "extra", replaced(1, with_flipped(lines[1], chance))
    yield "index", replaced(2, f"index {(index + 1) % size}")
    for at in range(3, end):
        yield f"hash {at - 3}", replaced(at, with_flipped(lines[at], chance))
    yield "a hash less", "\n".join([*lines[: end - 1], *lines[end:]])
    yield "a hash more", "\n".join([*lines[:end], lines[end - 1], *lines[end:]])
    yield "origin", replaced(end + 1, lines[end + 1] + "s")
    yield "size", replaced(end + 2, str(size + 1))
    yield "root", replaced(end + 3, with_flipped(lines[end + 3], chance))
    yield "signature", replaced(end + 5, with_flipped(lines[end + 5], chance, after=4))
    yield "cosignature", replaced(end + 6, with_flipped(lines[end + 6], chance, after=4))
    yield "no signature", "\n".join([*lines[: end + 5], *lines[end + 6 :]])
    yield "no cosignature", "\n".join([*lines[: end + 6], *lines[end + 7 :]])


async def cosigned_proof(audit: Audit, event: str) -> str:
    async def found() -> str | None:
        answer = await audit.log.http.get(f"{audit.client.base_url}/v1/audit/events/{event}/proof")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        return answer.text if answer.text.count("\n— ") > 1 else None

    return await until(found, "a proof with the witness's cosignature")


@pytest.mark.invariant(3)
async def test_tesseras_fsck_rebuilds_the_log_through_the_gateway(audit: Audit, peers: Peers) -> None:
    shown = size_of(await audit.log.checkpoint())
    found = peers.fsck(audit.log.url, audit.vkey, audit.token)
    assert found.size is not None, found.said
    assert found.size >= shown > 256


async def test_tesseras_fsck_refuses_a_log_that_another_key_should_have_signed(audit: Audit, peers: Peers) -> None:
    found = peers.fsck(audit.log.url, other(audit.vkey), audit.token)
    assert found.size is None
    assert "failed to fetch and verify checkpoint" in found.said


async def test_tesseras_fsck_refuses_a_copy_of_the_log_with_one_bit_changed_anywhere(
    audit: Audit, peers: Peers, tmp_path: Path
) -> None:
    checkpoint = await audit.log.checkpoint()
    paths = await audit.log.save(tmp_path, checkpoint)
    assert peers.fsck(f"file://{tmp_path}", audit.vkey).size == size_of(checkpoint)
    chance = random.Random(FROM_THE_SAME_SEED)
    for path in paths:
        whole = path.read_bytes()
        # Behind the log's own signature stand those of witnesses, which fsck was not told of.
        last = whole.index("— ".encode()) if path.name == "checkpoint" else len(whole)
        path.write_bytes(flipped(whole[:last], chance) + whole[last:])
        found = peers.fsck(f"file://{tmp_path}", audit.vkey)
        assert found.size is None, (path, found.said)
        path.write_bytes(whole)
    assert peers.fsck(f"file://{tmp_path}", audit.vkey).size == size_of(checkpoint)


@pytest.mark.invariant(3)
async def test_gos_note_and_merkle_libraries_accept_the_proofs_of_first_last_and_any_event(
    audit: Audit, peers: Peers
) -> None:
    size = size_of(await audit.cosigned(0))
    leaves = await audit.log.leaves(size)
    chance = random.Random(FROM_THE_SAME_SEED)
    indexes = [0, size - 1, *chance.sample(range(1, size - 1), PROOFS - 2)]
    events = [json.loads(leaves[index])["id"] for index in indexes]
    proofs = [await cosigned_proof(audit, event) for event in events]
    verdicts = peers.ask({"proof": proof, "log": audit.vkey, "witness": audit.witness} for proof in proofs)
    assert [verdict["error"] for verdict in verdicts] == [""] * PROOFS
    assert [verdict["index"] for verdict in verdicts] == indexes
    assert [verdict["leaf"].encode() for verdict in verdicts] == [leaves[index] for index in indexes]
    assert all(verdict["size"] > verdict["index"] and verdict["time"] > 0 for verdict in verdicts)


async def test_gos_note_and_merkle_libraries_refuse_each_tampered_proof_and_each_other_key(
    audit: Audit, peers: Peers
) -> None:
    size = size_of(await audit.cosigned(0))
    leaves = await audit.log.leaves(size)
    chance = random.Random(FROM_THE_SAME_SEED)
    what, questions = [], []
    for index in (0, size - 1, size // 2):
        proof = await cosigned_proof(audit, json.loads(leaves[index])["id"])
        good = {"proof": proof, "log": audit.vkey, "witness": audit.witness}
        for name, copy in tampered(proof, chance):
            what.append(f"{name} of {index}")
            questions.append({**good, "proof": copy})
        what += ["key", "witness"]
        questions += [{**good, "log": other(audit.vkey)}, {**good, "witness": other(audit.witness)}]
    accepted = [name for name, verdict in zip(what, peers.ask(questions), strict=True) if not verdict["error"]]
    assert accepted == []


@pytest.mark.invariant(3)
async def test_tesseras_client_finds_an_old_checkpoint_continued_by_the_newest(audit: Audit, peers: Peers) -> None:
    kept = await audit.cosigned(0)
    await audit.act(20)
    newest = await audit.cosigned(size_of(kept) + 40)
    asked = {"url": audit.log.url, "token": audit.token, "log": audit.vkey, "witness": audit.witness}
    good = {**asked, "old": kept, "new": newest}
    chance = random.Random(FROM_THE_SAME_SEED)
    wrong = [
        {**good, "old": changed(kept, 2, lambda line: with_flipped(line, chance))},
        {**good, "new": changed(newest, 2, lambda line: with_flipped(line, chance))},
        {**good, "new": changed(newest, 1, lambda line: str(int(line) - 1))},
        {**good, "log": other(audit.vkey)},
        {**good, "witness": other(audit.witness)},
        {**good, "old": newest, "new": kept},
    ]
    right, *refused = peers.ask([good, *wrong])
    assert right["error"] == ""
    assert right["size"] == size_of(newest)
    assert [verdict["error"] != "" for verdict in refused] == [True] * len(wrong)


def changed(checkpoint: str, at: int, change: Callable[[str], str]) -> str:
    lines = checkpoint.split("\n")
    return "\n".join([*lines[:at], change(lines[at]), *lines[at + 1 :]])


async def test_tesseras_client_finds_a_signed_old_tree_that_the_tiles_do_not_continue(
    audit: Audit, peers: Peers
) -> None:
    """All signatures are good here, by a key of the test, so that the hashes alone have to tell."""
    kept = Checkpoint.read(await audit.cosigned(0))
    await audit.act(5)
    newest = Checkpoint.read(await audit.cosigned(kept.size + 10))
    key = SigningKey.generate()

    def signed(checkpoint: Checkpoint) -> str:
        return notes.sign(checkpoint.text(), checkpoint.origin, key)

    asked = {"url": audit.log.url, "token": audit.token, "log": notes.key_of(kept.origin, key).vkey()}
    root = flipped(kept.root, random.Random(FROM_THE_SAME_SEED))
    forked = signed(Checkpoint(kept.origin, kept.size, root))
    verdicts = peers.ask({**asked, "old": old, "new": signed(newest)} for old in (signed(kept), forked))
    assert [verdict["error"] == "" for verdict in verdicts] == [True, False]
