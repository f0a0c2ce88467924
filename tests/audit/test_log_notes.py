"""Signed notes, checkpoints and cosignatures, against the vector of C2SP signed-note."""

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dossier_audit.log import notes
from dossier_audit.log.notes import COSIGNATURE, Checkpoint, NoteInvalid, NoteKey
from dossier_common.keys import SigningKey

VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
TEXT = "This is an example message.\n"
LINE = "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="


def test_the_vector_verifies() -> None:
    key = NoteKey.read(VKEY)
    assert key.vkey() == VKEY
    assert notes.signatures_by(key, f"{TEXT}\n{LINE}\n") == [LINE]


@pytest.mark.parametrize("text", [TEXT.replace("is", "was", 1), TEXT + "more\n", " " + TEXT])
def test_another_text_does_not_verify(text: str) -> None:
    with pytest.raises(NoteInvalid, match="does not verify"):
        notes.signatures_by(NoteKey.read(VKEY), f"{text}\n{LINE}\n")


def test_signatures_of_unknown_keys_are_passed_over() -> None:
    other = notes.sign(TEXT, "example.com/bar", SigningKey.generate()).splitlines()[-1]
    assert notes.signatures_by(NoteKey.read(VKEY), f"{TEXT}\n{other}\n{LINE}\n{other}\n") == [LINE]
    assert notes.signatures_by(NoteKey.read(VKEY), f"{TEXT}\n{other}\n") == []


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}\n{LINE}",
        f"{TEXT}\nnothing\n",
        f"{TEXT}\n- example.com/foo AAAA\n",
        f"{TEXT}\n{LINE}\n" + f"{LINE}\n" * 64,
        f"{TEXT}{LINE}\n",
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(NoteInvalid):
        notes.signatures_by(NoteKey.read(VKEY), note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "x",
        "example.com/foo+530d903a",
        VKEY[:-4],
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("+Aek", "+Bek"),
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_what_is_no_vkey_is_refused(vkey: str) -> None:
    with pytest.raises(NoteInvalid):
        NoteKey.read(vkey)


def test_a_checkpoint_is_read_as_it_was_signed() -> None:
    key = SigningKey.generate()
    checkpoint = Checkpoint("example.com/log", 7, bytes(32))
    note = notes.sign(checkpoint.text(), checkpoint.origin, key)
    assert note.splitlines()[:3] == ["example.com/log", "7", b64encode(bytes(32)).decode()]
    assert Checkpoint.opened(note, notes.key_of("example.com/log", key)) == checkpoint
    assert len(b64decode(note.splitlines()[-1].split(" ")[2])) == 68
    with pytest.raises(NoteInvalid):
        Checkpoint.opened(note, notes.key_of("example.com/log", SigningKey.generate()))
    with pytest.raises(NoteInvalid):
        Checkpoint.opened(note, notes.key_of("example.com/other", key))


@pytest.mark.parametrize("text", ["a\n-1\nAA\n", "a\n01\nAA\n", "a\n1\nAA==\n", "\n1\nAA\n", "a\n1\n", "a\nx\n*\n"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        Checkpoint.read(text)


def test_a_cosignature_is_over_its_time_and_the_whole_checkpoint() -> None:
    private = Ed25519PrivateKey.generate()
    witness = NoteKey("witness.example/w", COSIGNATURE, private.public_key().public_bytes_raw())
    note = notes.sign(Checkpoint("example.com/log", 7, bytes(32)).text(), "example.com/log", SigningKey.generate())
    text, _ = notes.split(note)
    stamp = 1_700_000_000
    signature = private.sign(f"cosignature/v1\ntime {stamp}\n{text}".encode())
    line = f"— {witness.name} {b64encode(witness.id + stamp.to_bytes(8, 'big') + signature).decode()}"
    assert notes.signed_by(witness, text, line)
    assert notes.signatures_by(witness, notes.with_cosignatures(note, [line])) == [line]
    moved = f"— {witness.name} {b64encode(witness.id + (stamp + 1).to_bytes(8, 'big') + signature).decode()}"
    with pytest.raises(NoteInvalid):
        notes.signed_by(witness, text, moved)
