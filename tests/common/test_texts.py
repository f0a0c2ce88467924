import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossier_common.texts import SealedTexts, TextUnreadable

TEXTS = SealedTexts(secrets.token_bytes(32))


@given(st.text())
def test_a_sealed_text_opens_to_itself_and_never_seals_the_same(text: str) -> None:
    sealed = TEXTS.seal(text)
    assert TEXTS.open(sealed) == text
    assert TEXTS.seal(text) != sealed


@given(st.text(), st.data())
def test_a_changed_text_does_not_open(text: str, data: st.DataObject) -> None:
    sealed = bytearray(TEXTS.seal(text))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TextUnreadable):
        TEXTS.open(bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" * 13])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(TextUnreadable):
        TEXTS.open(sealed)


def test_another_secret_does_not_open() -> None:
    with pytest.raises(TextUnreadable):
        SealedTexts(secrets.token_bytes(32)).open(TEXTS.seal("reason"))
