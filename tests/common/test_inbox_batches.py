"""Which of the messages that have arrived are taken together."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from dossier_common.ids import new_id
from dossier_common.inbox import _whole_batches
from dossier_common.leaves import NO_LEAF, Head, Numbered

Pending = list[tuple[Msg, Numbered, Head]]


def messages(batches: list[tuple[int, int]]) -> Pending:
    """Messages of batches, each given as its epoch and length."""
    pending: Pending = []
    last: dict[int, int] = {}
    for epoch, length in batches:
        first = last.get(epoch, 0) + 1
        last[epoch] = first + length - 1
        head = Head("records", epoch, last[epoch], NO_LEAF, b"")
        for seq in range(first, last[epoch] + 1):
            event = Numbered(new_id(), "records.v1.record.viewed", epoch, seq, b"", b"", b"")
            pending.append((cast("Msg", None), event, head))
    return pending


EPOCHS = st.lists(st.integers(1, 3), max_size=8).map(sorted)


@given(EPOCHS, st.data())
def test_whole_batches_are_taken_epoch_by_epoch_and_none_is_passed_over(epochs: list[int], data: st.DataObject) -> None:
    lengths = [data.draw(st.integers(1, 4)) for _ in epochs]
    pending = messages(list(zip(epochs, lengths, strict=True)))
    arrived = pending[: data.draw(st.integers(0, len(pending)))]
    taken: Pending = []
    while whole := _whole_batches(arrived):
        batch, arrived = arrived[:whole], arrived[whole:]
        head = batch[-1][2]
        assert {event.epoch for _, event, _ in batch} == {head.epoch}
        assert batch[-1][1].seq == head.seq
        taken += batch
    assert taken + arrived == pending[: len(taken) + len(arrived)]
    assert not arrived or arrived[-1][1].seq != arrived[-1][2].seq
