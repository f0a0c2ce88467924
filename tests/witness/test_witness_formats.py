"""Notes, keys and checkpoints, against the standards' own examples."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.witness.logbook import ORIGIN, WITNESS, Log, LogKey, cosigned_at, key_id

from dossier_witness import note
from dossier_witness.note import Checkpoint, Cosigner, Malformed, Signature, Verifier

VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
TEXT = "This is an example message.\n"
LINE = "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


def test_the_example_of_signed_note_verifies() -> None:
    key, signature = Verifier.parse(VKEY), Signature.parse(LINE)
    assert key.made(signature)
    assert key.holds(signature, TEXT)
    assert not key.holds(signature, TEXT.replace("an", "no"))


def test_a_vkey_is_written_as_the_example_is() -> None:
    public = Verifier.parse(VKEY).public
    assert note.vkey("example.com/foo", note.ED25519, public) == VKEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/bar+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3Q==",
        "example.com/foo+530d903a+é",
    ],
)
def test_what_is_not_a_vkey_of_an_ed25519_key_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        Verifier.parse(text)


def test_a_checkpoint_gives_origin_size_root_and_its_text_with_extension_lines() -> None:
    text = f"example.com/behind-the-sofa\n20852163\n{ROOT}\nan extension\n"
    parsed = Checkpoint.parse(f"{text}\n{LINE}\n")
    assert (parsed.origin, parsed.size, parsed.root) == (
        "example.com/behind-the-sofa",
        20852163,
        base64.b64decode(ROOT),
    )
    assert parsed.text == text
    assert [each.line for each in parsed.signatures] == [LINE]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n",
        f"o\n1\n{ROOT}\n",
        f"\n1\n{ROOT}\n\n",
        f"o\n01\n{ROOT}\n\n",
        f"o\n+1\n{ROOT}\n\n",
        f"o\n-1\n{ROOT}\n\n",
        f"o\n1 \n{ROOT}\n\n",
        f"o\n١\n{ROOT}\n\n",
        f"o\n{2**63}\n{ROOT}\n\n",
        "o\n1\n\n",
        f"o\n1\n{ROOT[:-1]}\n\n",
        f"o\n1\n{ROOT[:-2]}J=\n\n",
        f"o\n1\n{ROOT} \n\n",
        f"o\n1\n{base64.b64encode(bytes(31)).decode()}\n\n",
        f"o\n1\n{ROOT}\n\nextension after an empty line\n\n",
        f"o\n1\n{ROOT}\n\n{LINE}",
        f"o\n1\n{ROOT}\n\n{LINE.replace('—', '-')}\n",
        f"o\n1\n{ROOT}\n\n{LINE} again\n",
        f"o\n1\n{ROOT}\n\n— name\n",
        f"o\n1\n{ROOT}\n\n— na+me {ROOT}\n",
        f"o\n1\n{ROOT}\n\n— na\u2003me {ROOT}\n",
        f"o\n1\n{ROOT}\n\n— name AAAAAA==\n",
        f"o\n1\n{ROOT}\n\n— name not.base64\n",
        f"o\r\n1\n{ROOT}\n\n{LINE}\n",
        f"o\t\n1\n{ROOT}\n\n{LINE}\n",
        f"o\0\n1\n{ROOT}\n\n{LINE}\n",
    ],
)
def test_what_is_not_a_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(text)


@given(st.text())
def test_any_text_is_a_checkpoint_or_malformed_and_nothing_else(text: str) -> None:
    try:
        parsed = Checkpoint.parse(text)
    except Malformed:
        return
    assert text.startswith(parsed.text)


def test_the_largest_size_is_taken() -> None:
    assert Checkpoint.parse(f"o\n{2**63 - 1}\n{ROOT}\n\n{LINE}\n").size == 2**63 - 1


def test_a_cosignature_has_its_key_id_type_time_and_message_as_the_standard_says() -> None:
    cosigner = Cosigner(WITNESS, Ed25519PrivateKey.generate())
    checkpoint = Log(LogKey()).checkpoint(7)
    parsed = Checkpoint.parse(checkpoint)
    line = cosigner.cosign(parsed.text, 1_679_315_147)
    assert cosigned_at(cosigner.vkey, checkpoint, line) == 1_679_315_147
    assert Signature.parse(line).name == WITNESS


def test_a_witness_and_a_log_with_one_name_and_key_have_different_key_ids() -> None:
    public = LogKey().public
    assert note.key_id(ORIGIN, note.ED25519, public) == key_id(ORIGIN, 1, public)
    assert note.key_id(ORIGIN, note.COSIGNATURE_V1, public) == key_id(ORIGIN, 4, public)
    assert key_id(ORIGIN, 1, public) != key_id(ORIGIN, 4, public)
