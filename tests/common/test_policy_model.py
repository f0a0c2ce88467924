"""The pure decisions of a policy, for whatever a pack says."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossier_common.policy import (
    Action,
    Conflict,
    Disclosure,
    Flow,
    FlowWhen,
    Hours,
    LevelAccess,
    Policy,
    Recipient,
    Relation,
    Requester,
    Stage,
    UnitExpression,
    UnknownNameError,
    load_policy,
)
from dossier_common.scopes import FOR_PEOPLE, SERVICE_ONLY, Scope, expand

BASE = load_policy(Path(__file__).parents[2] / "deploy" / "policies" / "baseline.yaml")
LEVELS = [level.id for level in BASE.levels]

whens = st.builds(
    FlowWhen,
    action=st.sets(st.sampled_from(list(Action)[:4]), min_size=1).map(tuple),
    level=st.none() | st.sets(st.sampled_from(LEVELS), min_size=1).map(tuple),
    requester=st.none() | st.sampled_from(Requester),
    recipient=st.none() | st.sets(st.sampled_from(Recipient), min_size=1).map(tuple),
)
cases = st.tuples(
    st.sampled_from(list(Action)[:4]),
    st.sampled_from(LEVELS),
    st.sampled_from(Requester),
    st.none() | st.sampled_from(Recipient),
)


def with_flows(conditions: list[FlowWhen]) -> Policy:
    stage = Stage(name="one", role="department_head", of=UnitExpression.REQUESTER_UNIT)
    flows = tuple(Flow(id=f"flow-{at}", when=when, stages=(stage,)) for at, when in enumerate(conditions))
    return BASE.model_copy(update={"flows": flows})


@given(st.lists(whens, max_size=6), cases)
def test_the_most_specific_flow_that_matches_is_taken(
    conditions: list[FlowWhen], case: tuple[Action, str, Requester, Recipient | None]
) -> None:
    found = with_flows(conditions).flow_for(*case)
    matching = [when.specificity for when in conditions if when.matches(*case)]
    assert (found is None) == (not matching)
    if found is not None:
        assert found.when.matches(*case)
        assert found.when.specificity == max(matching)


@given(whens, whens, cases)
def test_flows_that_both_match_a_case_are_known_to_overlap(
    one: FlowWhen, other: FlowWhen, case: tuple[Action, str, Requester, Recipient | None]
) -> None:
    assert one.overlaps(other) == other.overlaps(one)
    if one.matches(*case) and other.matches(*case):
        assert one.overlaps(other)


@given(whens, whens)
def test_flows_overlap_only_where_a_case_matches_both(one: FlowWhen, other: FlowWhen) -> None:
    every = (
        (action, level, requester, recipient)
        for action in Action
        for level in LEVELS
        for requester in Requester
        for recipient in (None, *Recipient)
    )
    assert one.overlaps(other) == any(one.matches(*case) and other.matches(*case) for case in every)


@given(st.permutations(range(4)), cases)
def test_the_order_of_flows_does_not_matter(
    order: list[int], case: tuple[Action, str, Requester, Recipient | None]
) -> None:
    conditions = [
        FlowWhen(action=tuple(Action)),
        FlowWhen(action=tuple(Action), level=("secret",)),
        FlowWhen(action=tuple(Action), level=("secret",), requester=Requester.OUTSIDER),
        FlowWhen(action=(Action.BORROW,), level=("top_secret",)),
    ]
    straight, shuffled = with_flows(conditions), with_flows([conditions[at] for at in order])
    one, other = straight.flow_for(*case), shuffled.flow_for(*case)
    assert one is not None
    assert other is not None
    assert one.when == other.when


def test_an_action_that_no_flow_provides_for_has_none() -> None:
    assert BASE.flow_for("circulate", "secret") is None
    with pytest.raises(ValueError, match="fly"):
        BASE.flow_for("fly", "secret")


@given(
    st.sampled_from(["person", "organisation"]),
    st.sampled_from(["general", "important", "vital"]),
    st.sets(st.sampled_from(["identity", "business", "sensitive", "derived"])),
    st.sets(st.sampled_from(["identity", "business", "sensitive", "derived"])),
)
def test_more_kinds_never_lower_the_level(customer: str, importance: str, kinds: set[str], more: set[str]) -> None:
    lower, upper = BASE.classify(customer, importance, kinds), BASE.classify(customer, importance, kinds | more)
    assert BASE.rank(lower.level) <= BASE.rank(upper.level)


@pytest.mark.invariant(7)
def test_levels_are_ordered_and_unknown_names_are_refused_without_repeating_them() -> None:
    assert [BASE.rank(level) for level in ("internal", "secret", "confidential", "top_secret")] == [0, 1, 2, 3]
    with pytest.raises(UnknownNameError) as caught:
        BASE.purpose("张三的电话")
    assert "张三" not in str(caught.value)


def test_a_clearance_reaches_its_own_level_and_those_below() -> None:
    levels = [level.id for level in BASE.levels]
    for rank, clearance in enumerate(levels):
        assert [level for level in levels if BASE.clears(clearance, level)] == levels[: rank + 1]


def test_a_clearance_or_a_level_that_the_policy_does_not_have_reaches_nothing() -> None:
    assert not BASE.clears("cosmic", "internal")
    assert not BASE.clears("top_secret", "cosmic")


scopes = st.sets(st.sampled_from(sorted(Scope)))


@given(scopes, scopes)
def test_more_scopes_never_settle_a_conflict(held: set[Scope], more: set[Scope]) -> None:
    before = {conflict.id for conflict in BASE.conflicts_in(held)}
    assert before <= {conflict.id for conflict in BASE.conflicts_in(held | more)}


@given(st.sampled_from(sorted(Scope)), st.sets(st.sampled_from(sorted(SERVICE_ONLY))))
def test_one_scope_alone_never_conflicts_and_services_scopes_stand_outside(scope: Scope, extra: set[Scope]) -> None:
    assert BASE.conflicts_in({scope, *extra}) == []


def test_a_scope_on_both_sides_conflicts_with_others_and_not_with_itself() -> None:
    conflict = Conflict.model_validate(
        {"id": "all", "title": {"zh": "一", "en": "One"}, "between": [["audit:*"], ["audit:read", "holds:place"]]}
    )
    policy = BASE.model_copy(update={"conflicts": (conflict,)})
    assert policy.conflicts_in({"audit:read"}) == []
    assert policy.conflicts_in({"audit:read", "holds:place"}) == [conflict]
    assert policy.conflicts_in({"audit:read", "audit:export"}) == [conflict]


def test_patterns_name_families_of_scopes_for_people() -> None:
    assert Scope.RECORDS_DESCRIBE not in expand(["records:*"])
    assert expand(["holds:*"]) == {Scope.HOLDS_PLACE, Scope.HOLDS_RELEASE}
    assert expand(["holds", "hold:*", "*", "events:pull"]) == frozenset()
    assert frozenset(Scope) == FOR_PEOPLE | SERVICE_ONLY


@pytest.mark.parametrize(
    ("quorum", "candidates", "needed"), [("any", 5, 1), ("all", 5, 5), ("all", 0, 1), (2, 5, 2), (3, 1, 3)]
)
def test_a_stage_always_needs_someone(quorum: str | int, candidates: int, needed: int) -> None:
    stage = Stage.model_validate({"name": "a", "role": "committee", "of": "group", "quorum": quorum})
    assert stage.needed(candidates) == needed


@pytest.mark.parametrize("quorum", [0, -1, "most", 1.5])
def test_a_quorum_of_nobody_is_refused(quorum: object) -> None:
    with pytest.raises(ValueError, match="quorum"):
        Stage.model_validate({"name": "a", "role": "committee", "of": "group", "quorum": quorum})


def test_who_needs_to_know_sees_what_the_level_says_and_others_the_rest() -> None:
    access = LevelAccess(
        level="secret",
        without_grant=Disclosure.NOTHING,
        need_to_know=(Relation.NAMED,),
        need_to_know_sees=Disclosure.MASKED,
    )
    assert access.disclosure(frozenset({Relation.NAMED, Relation.UNIT})) is Disclosure.MASKED
    assert access.disclosure(frozenset({Relation.UNIT})) is Disclosure.NOTHING
    assert access.disclosure(frozenset()) is Disclosure.NOTHING


def test_hours_are_those_of_their_zone() -> None:
    hours = Hours.model_validate({"start": "08:00", "end": "18:00", "days": [1, 2, 3, 4, 5]})
    assert hours.cover(datetime(2026, 11, 23, 0, 0, tzinfo=UTC))  # Monday, 8 o'clock in Shanghai
    assert not hours.cover(datetime(2026, 11, 23, 10, 0, tzinfo=UTC))
    assert not hours.cover(datetime(2026, 11, 22, 1, 0, tzinfo=UTC))  # Sunday
    with pytest.raises(ValueError, match="time zone"):
        Hours.model_validate({"start": "08:00", "end": "18:00", "timezone": "../etc"})
