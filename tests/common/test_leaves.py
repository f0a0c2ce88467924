"""Leaves, heads and their travel: any change of any field of any event of a chain is found."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_common.canonical import canonical
from dossier_common.events import instant
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey, VerifyingKeys
from dossier_common.leaves import NO_LEAF, ChainBroken, Head, Numbered, commitment, number, verify_chain
from dossier_common.wire import (
    Page,
    event_from_json,
    event_to_json,
    head_from_json,
    head_to_json,
    message,
    read_message,
    read_page,
)

KEY = SigningKey.generate()
KEYS = VerifyingKeys([KEY.public_jwk()])
TIME = "2026-11-22T08:00:00.000000Z"


def chain_of(bodies: list[bytes], *, start: int = 0, prev: bytes = NO_LEAF) -> tuple[list[Numbered], Head]:
    events, before, seq = [], prev, start
    for body in bodies:
        seq += 1
        events.append(number("records", 1, seq, before, new_id(), TIME, "records.v1.record.viewed", body))
        before = events[-1].hash
    return events, Head.sign(KEY, "records", 1, seq, before)


def check(events: list[Numbered], head: Head) -> None:
    head.verify(KEYS)
    verify_chain("records", 1, 0, NO_LEAF, events, head)


chains = st.lists(st.binary(max_size=40), min_size=1, max_size=8).map(chain_of)


@given(chains)
def test_chain_that_was_numbered_holds(made: tuple[list[Numbered], Head]) -> None:
    check(*made)


@pytest.mark.invariant(3)
@given(made=chains, data=st.data())
def test_any_change_of_any_field_of_any_event_is_found(made: tuple[list[Numbered], Head], data: st.DataObject) -> None:
    events, head = made
    place = data.draw(st.integers(0, len(events) - 1))
    event = events[place]
    name = data.draw(st.sampled_from(["id", "type", "epoch", "seq", "leaf", "salt", "body"]))
    before = getattr(event, name)
    if isinstance(before, bytes):
        changed: object = data.draw(
            st.one_of(
                st.binary(max_size=40),
                st.integers(0, max(0, len(before) - 1)).map(lambda at: before[:at] + before[at + 1 :]),
                st.integers(0, len(before)).map(lambda at: before[:at] + b" " + before[at:]),
            ).filter(lambda value: value != before)
        )
    elif isinstance(before, UUID):
        changed = new_id()
    elif isinstance(before, int):
        changed = data.draw(st.integers().filter(lambda value: value != before))
    else:
        changed = data.draw(st.text(max_size=10))
    other = replace(event, **{name: changed})  # type: ignore[arg-type]  # of the same type as before
    altered = [*events[:place], other, *events[place + 1 :]]
    with pytest.raises(ChainBroken):
        check(altered, head)


@pytest.mark.invariant(3)
@given(made=chains, data=st.data())
def test_any_change_of_a_member_of_a_leaf_is_found(made: tuple[list[Numbered], Head], data: st.DataObject) -> None:
    events, head = made
    place = data.draw(st.integers(0, len(events) - 1))
    said = orjson.loads(events[place].leaf)
    name = data.draw(st.sampled_from([*said, "note"]))
    value: object = data.draw(st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=8), st.just([])))
    if name in said and (said[name] == value and type(said[name]) is type(value)):
        return
    altered = [*events[:place], replace(events[place], leaf=canonical(said | {name: value})), *events[place + 1 :]]
    with pytest.raises(ChainBroken):
        check(altered, head)


@pytest.mark.invariant(3)
@given(made=chains, data=st.data())
def test_none_can_be_left_out_moved_or_repeated(made: tuple[list[Numbered], Head], data: st.DataObject) -> None:
    events, head = made
    order = data.draw(st.lists(st.sampled_from(range(len(events))), max_size=len(events) + 1))
    if order == list(range(len(events))):
        return
    with pytest.raises(ChainBroken):
        check([events[place] for place in order], head)


@pytest.mark.invariant(3)
@given(made=chains, data=st.data())
def test_any_change_of_a_head_is_found(made: tuple[list[Numbered], Head], data: st.DataObject) -> None:
    events, head = made
    changed = data.draw(
        st.sampled_from(
            [
                replace(head, producer="retention"),
                replace(head, epoch=2),
                replace(head, seq=head.seq + 1),
                replace(head, hash=NO_LEAF),
                replace(head, signature=bytes(64)),
                replace(head, signature=b""),
                replace(head, signature=head.signature[:-1]),
                Head.sign(SigningKey.generate(), "records", 1, head.seq, head.hash),
            ]
        )
    )
    with pytest.raises(ChainBroken):
        check(events, changed)


def test_leaf_reveals_nothing_but_its_eight_members() -> None:
    (event,), _ = chain_of([b'{"name":"x"}'])
    said = orjson.loads(event.leaf)
    assert set(said) == {"id", "producer", "epoch", "seq", "prev", "time", "type", "commitment"}
    assert said["commitment"] == commitment(event.salt, event.body).hex()
    assert len(event.salt) == 32
    (again,), _ = chain_of([b'{"name":"x"}'])
    assert orjson.loads(again.leaf)["commitment"] != said["commitment"]


def test_leaf_with_a_member_more_is_refused_though_it_is_signed() -> None:
    (event,), _ = chain_of([b"{}"])
    leaf = canonical(orjson.loads(event.leaf) | {"name": "Zhang San"})
    hiding = replace(event, leaf=leaf)
    with pytest.raises(ChainBroken, match="another"):
        check([hiding], Head.sign(KEY, "records", 1, 1, hiding.hash))


@pytest.mark.parametrize("leaf", [b"", b"{", b"[]", b"1", b'"x"', b"\xff"])
def test_leaf_that_is_none_breaks_the_chain(leaf: bytes) -> None:
    (event,), head = chain_of([b"{}"])
    with pytest.raises(ChainBroken):
        check([replace(event, leaf=leaf)], head)


@given(chains)
def test_what_travels_arrives_as_it_was(made: tuple[list[Numbered], Head]) -> None:
    events, head = chain_of([b'{"zh":"\xe5\xaf\x86","quote":"\\""}' for _ in made[0]])
    for event in events:
        assert read_message(message(event, head)) == (event, head)
    through = datetime(2026, 1, 1, 12, tzinfo=UTC)
    page = {"epoch": 1, "events": [event_to_json(event) for event in events], "head": head_to_json(head)}
    assert read_page(orjson.dumps(page | {"through": instant(through)})) == Page(events, head, through)
    end = {"epoch": 1, "events": [], "head": None, "through": instant(through)}
    assert read_page(orjson.dumps(end)) == Page([], None, through)


@pytest.mark.parametrize(
    "change",
    [{"through": None}, {"through": "2026-01-01T12:00:00"}, {"through": "yesterday"}, {"head": {}}, {"events": [{}]}],
)
def test_page_without_its_instant_or_its_head_is_none(change: dict[str, object]) -> None:
    page = {"epoch": 1, "events": [], "head": None, "through": "2026-01-01T12:00:00Z"}
    assert read_page(orjson.dumps(page)).head is None
    with pytest.raises(ChainBroken):
        read_page(orjson.dumps(page | change))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(value=json_values | st.fixed_dictionaries({"leaf": json_values, "salt": json_values, "body": json_values}))
@settings(max_examples=300)
def test_what_is_no_message_is_refused_as_such(value: object) -> None:
    for read in (read_message, read_page):
        with pytest.raises(ChainBroken):
            read(orjson.dumps(value))
    for parse in (head_from_json, event_from_json):
        with pytest.raises(ChainBroken):
            parse(value)  # type: ignore[arg-type]  # whatever came


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
@settings(max_examples=500)
def test_encoding_is_that_of_rfc_8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {"\ud800": 1}, {1: 2}, object()]
)
def test_what_has_no_canonical_encoding_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical(value)


def test_order_of_members_is_by_utf_16_units() -> None:
    assert canonical({"\U0001f600": 1, "\ufb33": 2, "a": 3}).startswith(b'{"a":3,"\xf0\x9f\x98\x80":1')
