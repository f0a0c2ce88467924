"""What the rules hold for any flow, any people and any order of verdicts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dossier_approvals import rules
from dossier_approvals.errors import NeededLater, SelfApproval, TermPassed
from dossier_approvals.rules import Case, GrantState, Move, RequestState, Stage, Verdict, Wish
from dossier_common.policy import Flow, GrantTerms, Period, RequestPart
from dossier_common.problems import Problem, SamePerson

PEOPLE = tuple(UUID(int=n) for n in range(1, 7))
NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def stages(draw: st.DrawFn, people: Sequence[UUID] = PEOPLE) -> tuple[Stage, ...]:
    found: list[Stage] = []
    for number in range(draw(st.integers(1, 4))):
        persons = draw(st.frozensets(st.sampled_from(people), min_size=1))
        quorum: rules.Quorum = draw(st.sampled_from(("all", "any", "n")))
        count = {"all": len(persons), "any": 1, "n": draw(st.integers(1, len(persons)))}[quorum]
        back = draw(st.integers(0, number))
        found.append(Stage(f"stage-{number}", persons, count, quorum, draw(st.booleans()), back))
    return tuple(found)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A case as the service makes them: the requester is no candidate, and somebody can decide every stage."""
    requester = draw(st.sampled_from(PEOPLE))
    drawn = draw(stages([person for person in PEOPLE if person != requester]))
    assume(rules.undecidable(drawn, {requester}) is None)
    return Case(requester, drawn)


class LifeOfARequest(RuleBasedStateMachine):
    """People of all kinds send verdicts, allowed or not; whatever happens, the history has to bear the grant."""

    @initialize(case=cases())
    def ask(self, case: Case) -> None:
        self.case = case
        self.history: list[tuple[int, int, UUID, Verdict]] = []

    @rule(person=st.sampled_from(PEOPLE), verdict=st.sampled_from(Verdict))
    def send(self, person: UUID, verdict: Verdict) -> None:
        before = self.case
        try:
            self.case, move = rules.decide(before, person, verdict)
        except Problem:
            return
        self.history.append((before.round, before.position, person, verdict))
        assert before.state is RequestState.OPEN
        assert (move is Move.GRANT) == (self.case.state is RequestState.GRANTED)
        assert (move is Move.RETURN) == (self.case.round == before.round + 1)

    @precondition(lambda self: self.case.state is RequestState.OPEN)
    @rule(person=st.sampled_from(PEOPLE))
    def agree(self, person: UUID) -> None:
        self.send(person, Verdict.DONE if self.case.stage.doing else Verdict.APPROVE)

    @invariant()
    def nobody_votes_twice_in_a_round_and_never_the_requester(self) -> None:
        seen = [(at, person) for at, _, person, _ in self.history]
        assert len(set(seen)) == len(seen)
        assert self.case.requester not in {person for _, person in seen}

    @invariant()
    def an_open_case_can_always_be_decided_in_its_round(self) -> None:
        if self.case.state is RequestState.OPEN:
            assert rules.stuck_at(self.case) is None

    @invariant()
    def a_grant_has_every_stage_approved_by_its_quorum(self) -> None:
        if self.case.state is not RequestState.GRANTED:
            return
        for position, stage in enumerate(self.case.stages):
            at = max(at for at, where, _, _ in self.history if where == position)
            agreed = {
                person
                for when, where, person, verdict in self.history
                if (when, where) == (at, position) and verdict in {Verdict.APPROVE, Verdict.DONE}
            }
            assert len(agreed) >= stage.needed
            assert agreed <= stage.persons
        last_round = {person for at, _, person, _ in self.history if at == self.case.round}
        assert len(last_round) >= sum(s.needed for s in self.case.stages[self._first_of_last_round() :])

    def _first_of_last_round(self) -> int:
        return min(where for at, where, _, _ in self.history if at == self.case.round)


TestLifeOfARequest = LifeOfARequest.TestCase


@given(case=cases())
def test_a_case_that_is_decidable_can_be_granted_by_somebody(case: Case) -> None:
    while case.state is RequestState.OPEN:
        case = _step(case)
    assert case.state is RequestState.GRANTED


def _step(case: Case) -> Case:
    for person in sorted(case.stage.persons):
        try:
            return rules.decide(case, person, Verdict.DONE if case.stage.doing else Verdict.APPROVE)[0]
        except (SelfApproval, SamePerson, NeededLater):
            continue
    raise AssertionError("nobody can go on")


@given(drawn=stages(), excluded=st.frozensets(st.sampled_from(PEOPLE), max_size=3))
def test_undecidable_agrees_with_trying_every_distribution(drawn: tuple[Stage, ...], excluded: frozenset[UUID]) -> None:
    places = [stage.persons - excluded for stage in drawn for _ in range(stage.needed)]
    assert (rules.undecidable(drawn, excluded) is None) == _fits(places, frozenset())


def _fits(places: Sequence[frozenset[UUID]], used: frozenset[UUID]) -> bool:
    if not places:
        return True
    if len(places) + len(used) > len(PEOPLE):
        return False
    return any(_fits(places[1:], used | {person}) for person in places[0] - used)


@pytest.mark.invariant(4)
def test_who_alone_could_decide_a_later_stage_cannot_decide_an_earlier_one() -> None:
    both, other, requester = PEOPLE[:3]
    case = Case(requester, (Stage("first", frozenset({both, other})), Stage("second", frozenset({both}))))
    with pytest.raises(NeededLater):
        rules.decide(case, both, Verdict.APPROVE)
    assert rules.decide(case, other, Verdict.APPROVE)[1] is Move.ADVANCE


def test_a_vote_of_n_is_lost_when_n_cannot_be_reached() -> None:
    requester, *members = PEOPLE[:5]
    case = Case(requester, (Stage("committee", frozenset(members), 3, "n"),))
    case, move = rules.decide(case, members[0], Verdict.REJECT)
    assert move is Move.WAIT
    case, move = rules.decide(case, members[1], Verdict.REJECT)
    assert (move, case.state) == (Move.REJECT, RequestState.REJECTED)


periods = st.builds(Period, months=st.integers(0, 24), days=st.integers(0, 60), seconds=st.integers(0, 86400))


@given(
    term_max=st.none() | periods,
    uses_max=st.none() | st.integers(1, 50),
    single=st.booleans(),
    now=instants,
    not_before=st.none() | instants,
    until=st.none() | instants,
    uses=st.none() | st.integers(1, 100),
)
def test_a_grant_never_exceeds_its_flow_nor_what_was_asked_for(
    term_max: Period | None,
    uses_max: int | None,
    single: bool,  # noqa: FBT001
    now: datetime,
    not_before: datetime | None,
    until: datetime | None,
    uses: int | None,
) -> None:
    limits = GrantTerms(term_max=term_max, uses_max=uses_max, single_use=single)
    wish = Wish("view", PEOPLE[:1], not_before=not_before, until=until, uses=uses)
    try:
        terms = rules.terms_of(limits, wish, now)
    except TermPassed:
        start = max(now, not_before or now)
        ends = ([until] if until else []) + ([term_max.after(start)] if term_max else [])
        assert not ends or min(ends) <= start
        return
    assert now <= terms.not_before < terms.until
    assert terms.not_before >= (not_before or now)
    assert until is None or terms.until <= until
    assert term_max is None or terms.until <= term_max.after(terms.not_before)
    assert terms.uses == min([n for n in (1 if single else uses_max, uses) if n is not None], default=None)


@given(
    stored=st.sampled_from((GrantState.ACTIVE, GrantState.REVOKED, GrantState.RETURNED, GrantState.ENDED)),
    until=instants,
    now=instants,
    uses=st.none() | st.integers(1, 5),
    counted=st.integers(0, 6),
)
def test_a_grant_is_active_only_before_its_end_with_uses_left(
    stored: GrantState, until: datetime, now: datetime, uses: int | None, counted: int
) -> None:
    state = rules.grant_state(stored, until, uses, counted, now)
    usable = stored is GrantState.ACTIVE and now < until and (uses is None or counted < uses)
    assert (state is GrantState.ACTIVE) == usable
    assert stored is GrantState.ACTIVE or state is stored


def _flow(**request: list[str]) -> Flow:
    stage = {"name": "only", "role": "department_head", "of": "requester.unit"}
    return Flow.model_validate({"id": "x", "when": {"action": "view"}, "request": request, "stages": [stage]})


FULL = Wish(
    "view",
    PEOPLE[:1],
    purpose="service",
    reason="why",
    profile={part.value: "given" for part in RequestPart},
    fields=("name",),
    not_before=NOW,
    until=NOW + timedelta(days=1),
)


@given(required=st.sets(st.sampled_from(RequestPart)), one_of=st.sets(st.sampled_from(RequestPart)))
def test_every_missing_part_has_a_pointer_and_a_full_request_misses_none(
    required: set[RequestPart], one_of: set[RequestPart]
) -> None:
    flow = _flow(required=sorted(required), one_of=sorted(one_of))
    assert rules.missing_parts(flow, FULL) == []
    empty = Wish("view", ())
    missing = {fault.pointer for fault in rules.missing_parts(flow, empty)}
    assert missing >= {rules.pointer_of(part) for part in required}
    assert not one_of or missing & {rules.pointer_of(part) for part in one_of}


@pytest.mark.clause("A8.18.4")
@pytest.mark.parametrize(
    ("profile", "complete"), [({"work_card": "2231"}, True), ({"work_card": " "}, False), ({}, False)]
)
def test_one_of_two_papers_is_enough_and_a_blank_one_is_none(profile: dict[str, str], complete: bool) -> None:  # noqa: FBT001
    flow = _flow(one_of=["introduction_letter", "work_card"])
    wish = Wish("view", PEOPLE[:1], profile=profile, until=NOW + timedelta(days=1))
    assert (rules.missing_parts(flow, wish) == []) == complete
