"""Terms, eligibility, and the states of a case."""

import calendar
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from dossier_common.identity import RoleIn
from dossier_common.policy import Period, Trigger
from dossier_common.problems import SamePerson
from dossier_retention import rules
from dossier_retention.errors import (
    AnotherOffice,
    DestructionUnderWay,
    Held,
    NotDue,
    OutstandingCopies,
    RecordDestroyed,
    WrongState,
)
from dossier_retention.rules import OPEN, TRANSITIONS, DisposalState, Standing

DAYS = st.dates(date(1900, 1, 1), date(2200, 12, 31))
TERMS = st.builds(Period, years=st.integers(0, 100), months=st.integers(0, 60), days=st.integers(0, 1000)).filter(
    lambda term: not term.is_zero
)


@pytest.mark.clause("A4.26")
@pytest.mark.parametrize(
    ("start", "term", "end"),
    [
        (date(2021, 11, 22), "P5Y", date(2026, 11, 22)),
        (date(2024, 2, 29), "P1Y", date(2025, 2, 28)),
        (date(2024, 2, 29), "P4Y", date(2028, 2, 29)),
        (date(2025, 1, 31), "P1M", date(2025, 2, 28)),
        (date(2024, 1, 31), "P1M", date(2024, 2, 29)),
        (date(2025, 8, 31), "P6M", date(2026, 2, 28)),
        (date(2025, 12, 31), "P2M", date(2026, 2, 28)),
        (date(2025, 1, 31), "P1M1D", date(2025, 3, 1)),
        (date(2025, 1, 31), "P30D", date(2025, 3, 2)),
    ],
)
def test_terms_are_calendar_months_clipped_to_the_month(start: date, term: str, end: date) -> None:
    assert rules.term_end(start, Period.parse(term)) == end


@given(DAYS, TERMS)
def test_terms_end_where_dateutil_says(start: date, term: Period) -> None:
    expected = start + relativedelta(years=term.years, months=term.months) + timedelta(days=term.days)
    assert rules.term_end(start, term) == expected


@given(DAYS, TERMS)
def test_a_term_ends_after_its_start_and_never_in_an_earlier_month(start: date, term: Period) -> None:
    end = rules.term_end(start, term)
    assert end > start
    months = (end.year - start.year) * 12 + end.month - start.month
    assert months >= term.years * 12 + term.months


@given(DAYS, DAYS, TERMS)
def test_who_starts_later_ends_no_earlier(one: date, other: date, term: Period) -> None:
    first, second = sorted((one, other))
    assert rules.term_end(first, term) <= rules.term_end(second, term)


@given(st.integers(1904, 2196).filter(calendar.isleap), st.integers(1, 60))
def test_leap_days_end_on_the_last_of_february(year: int, years: int) -> None:
    end = rules.term_end(date(year, 2, 29), Period(years=years))
    assert (end.month, end.day) == (2, calendar.monthrange(year + years, 2)[1])


@pytest.mark.parametrize(("start", "term"), [(date(2026, 1, 1), Period()), (date(9990, 1, 1), Period(years=10))])
def test_a_term_without_end_is_undefined(start: date, term: Period) -> None:
    with pytest.raises(rules.TermUndefined):
        rules.term_end(start, term)


def test_clocks_start_at_their_trigger() -> None:
    opened, ended = date(2020, 1, 1), date(2021, 1, 1)
    assert rules.clock_start(Trigger.OPENED, opened, None) == opened
    assert rules.clock_start(Trigger.RELATIONSHIP_ENDED, opened, ended) == ended
    assert rules.clock_start(Trigger.RELATIONSHIP_ENDED, opened, None) is None
    assert rules.clock_start(Trigger.CONTRACT_ENDED, opened, ended) is None


@pytest.mark.clause("A4.26")
@given(
    st.builds(
        Standing,
        destroyed=st.booleans(),
        due_on=st.none() | DAYS,
        held=st.booleans(),
        copies_out=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    ),
    DAYS,
)
def test_only_what_is_due_free_and_complete_is_disposable(standing: Standing, today: date) -> None:
    due = standing.due_on is not None and today >= standing.due_on
    allowed = due and not (standing.destroyed or standing.held or standing.copies_out)
    if allowed:
        rules.ensure_disposable(standing, today)
    else:
        with pytest.raises((RecordDestroyed, NotDue, Held, OutstandingCopies)):
            rules.ensure_disposable(standing, today)


def test_disposable_from_the_day_itself_and_not_the_day_before() -> None:
    standing = Standing(destroyed=False, due_on=date(2026, 11, 22), held=False, copies_out=())
    rules.ensure_disposable(standing, date(2026, 11, 22))
    with pytest.raises(NotDue):
        rules.ensure_disposable(standing, date(2026, 11, 21))


@pytest.mark.parametrize("state", DisposalState)
def test_holds_come_too_late_only_while_executing(state: DisposalState) -> None:
    if state is DisposalState.EXECUTING:
        with pytest.raises(DestructionUnderWay):
            rules.ensure_holdable(destroyed=False, open_state=state)
    else:
        rules.ensure_holdable(destroyed=False, open_state=state)


@given(st.uuids(), st.sets(st.uuids()))
def test_persons_are_distinct(person: UUID, others: set[UUID]) -> None:
    rules.ensure_distinct(person, others - {person})
    with pytest.raises(SamePerson):
        rules.ensure_distinct(person, others | {person})


def test_the_office_is_held_in_the_records_unit_or_above() -> None:
    unit, above, elsewhere = uuid4(), uuid4(), uuid4()
    for held in (unit, above):
        rules.ensure_office([RoleIn("inspector", held)], "inspector", [unit, above])
    for role in (RoleIn("inspector", elsewhere), RoleIn("records_clerk", unit)):
        with pytest.raises(AnotherOffice):
            rules.ensure_office([role], "inspector", [unit, above])


def test_a_grant_ends_at_its_end_unless_the_order_was_given() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    for state in DisposalState:
        ends = state in {DisposalState.APPROVED, DisposalState.EXECUTING}
        assert rules.grant_ended(state, now, ordered=False, now=now) is ends
        assert not rules.grant_ended(state, now, ordered=True, now=now)
        assert not rules.grant_ended(state, now + timedelta(seconds=1), ordered=False, now=now)
        assert not rules.grant_ended(state, None, ordered=False, now=now)


@pytest.mark.invariant(5)
@given(st.integers(0, 3))
def test_destroyed_is_only_what_cannot_be_decrypted(remaining: int) -> None:
    assert rules.evidence_suffices(decryption_failed=True, remaining=remaining) is (remaining == 0)
    assert not rules.evidence_suffices(decryption_failed=False, remaining=remaining)


class CaseStates(RuleBasedStateMachine):
    """A case goes where TRANSITIONS lets it, whatever is tried."""

    states = Bundle("states")

    @initialize()
    def begin(self) -> None:
        self.path = [DisposalState.PROPOSED]

    @rule(to=st.sampled_from(DisposalState))
    def attempt(self, to: DisposalState) -> None:
        here = self.path[-1]
        if to in TRANSITIONS[here]:
            rules.ensure_transition(here, to)
            self.path.append(to)
        else:
            with pytest.raises(WrongState, match=here):
                rules.ensure_transition(here, to)

    @invariant()
    def nothing_is_destroyed_without_approval_and_both_keys(self) -> None:
        if DisposalState.DESTROYED in self.path:
            assert self.path[-3:] == [DisposalState.APPROVED, DisposalState.EXECUTING, DisposalState.DESTROYED]

    @invariant()
    def an_end_is_an_end(self) -> None:
        assert all(state in OPEN for state in self.path[:-1])


TestCaseStates = CaseStates.TestCase
