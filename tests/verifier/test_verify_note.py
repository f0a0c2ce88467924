"""Signed notes, verifier keys, checkpoints and cosignatures, by the vectors of C2SP and by tampering."""

from base64 import b64encode
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.verifier.writer import Key, Log

from dossier_verify.note import Checkpoint, Malformed, Note, Unsigned, VerifierKey

VKEY: Final = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE: Final = (
    "This is an example message.\n\n\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def test_the_vector_of_signed_note_holds() -> None:
    key = VerifierKey.parse(VKEY)
    assert Note.parse(NOTE.encode()).signed_by([key]) == {key: None}
    assert str(key) == VKEY


@given(st.integers(0, 26), st.integers(1, 94))
def test_a_changed_text_is_not_signed(place: int, by: int) -> None:
    changed = chr(32 + (ord(NOTE[place]) - 32 + by) % 95)
    note = Note.parse((NOTE[:place] + changed + NOTE[place + 1 :]).encode())
    with pytest.raises(Unsigned):
        note.signed_by([VerifierKey.parse(VKEY)])


def test_signatures_of_unknown_keys_are_ignored() -> None:
    same_name, same_id = Key("example.com/foo"), VerifierKey.parse(VKEY).renamed("example.com/bar")
    text = "This is an example message.\n"
    lines = "".join(Key(f"other.example/{number}").line(text) for number in range(15))
    note = Note.parse((NOTE + lines + same_name.line(text)).encode())
    assert note.signed_by([VerifierKey.parse(VKEY), same_id]) == {VerifierKey.parse(VKEY): None}


@pytest.mark.parametrize(
    "text",
    [
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+Aw==",
        "",
    ],
)
def test_a_vkey_that_was_copied_wrongly_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        VerifierKey.parse(text)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_garbage_is_no_note(data: bytes) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(data)


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n01\n{root}\n",
        "o\n-1\n{root}\n",
        "o\n1\n{root}=\n",
        "o\n1\nAAAA\n",
        "\n1\n{root}\n",
        "o\n99999999999999999999\n{root}\n",
        "o\n9223372036854775807\n{root}\n",
        "o\n1\n{root}\n\nextension after an empty line\n",
        "o\n1\n{root}\ntab\there\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    body = text.format(root=b64encode(bytes(32)).decode())
    with pytest.raises(Malformed):
        Checkpoint.parse(f"{body}\n{Key('o').line(body)}".encode())


def test_extension_lines_are_signed_too() -> None:
    key, body = Key("o"), f"o\n1\n{b64encode(bytes(32)).decode()}\nmore\n"
    checkpoint = Checkpoint.parse(f"{body}\n{key.line(body)}".encode())
    assert checkpoint.verify([VerifierKey.parse(key.vkey)]) == {}


def test_a_cosignature_counts_for_its_witness_and_says_when() -> None:
    log, witness, other = Log().open(), Key("witness.example/w", 4), Key("witness.example/x", 4)
    log.witnesses = [witness]
    checkpoint = Checkpoint.parse(log.checkpoint())
    keys = [VerifierKey.parse(log.key.vkey)]
    named = [VerifierKey.parse(witness.vkey), VerifierKey.parse(other.vkey)]
    assert checkpoint.verify(keys, named) == {"witness.example/w": 1_700_000_000}


def test_a_cosignature_is_no_signature_of_the_log() -> None:
    log = Log()
    log.key.kind = 4
    checkpoint = Checkpoint.parse(log.checkpoint())
    with pytest.raises(Unsigned):
        checkpoint.verify([VerifierKey.parse(log.key.vkey)])


@pytest.mark.parametrize("place", [6, 14, 60])
def test_a_named_witness_signature_that_does_not_hold_rejects_the_note(place: int) -> None:
    log, witness = Log().open(), Key("witness.example/w", 4)
    log.witnesses = [witness]
    lines = log.checkpoint().decode().split(" ")
    blob = bytearray(__import__("base64").b64decode(lines[-1]))
    blob[place] ^= 1
    lines[-1] = b64encode(bytes(blob)).decode() + "\n"
    checkpoint = Checkpoint.parse(" ".join(lines).encode())
    with pytest.raises(Unsigned, match=r"witness\.example/w"):
        checkpoint.verify([VerifierKey.parse(log.key.vkey)], [VerifierKey.parse(witness.vkey)])


def test_an_origin_that_is_not_the_keys_name_is_refused() -> None:
    log = Log(Key("a.example/log"))
    body = f"b.example/log\n0\n{b64encode(bytes(32)).decode()}\n"
    checkpoint = Checkpoint.parse(f"{body}\n{log.key.line(body)}".encode())
    with pytest.raises(Unsigned, match="none of the given vkeys"):
        checkpoint.verify([VerifierKey.parse(log.key.vkey)])
