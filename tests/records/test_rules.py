from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_common.identity import RoleIn, Subject
from dossier_common.policy import Action, Disclosure, Policy, load_policy
from dossier_common.policy.sections import Hours
from dossier_records import rules
from dossier_records.rules import GrantFacts, Reason, RecordFacts, Rule, decide

PACKS = [
    load_policy(Path(__file__).parents[2] / f"deploy/policies/{name}.yaml") for name in ("baseline", "service-desk")
]
NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
IDS = [UUID(int=n) for n in range(1, 4)]
ids = st.sampled_from(IDS)
LEVELS = [level.id for level in PACKS[0].levels]
ROLES = [role.id for role in PACKS[0].roles]
OFFICERS = {role.id for role in PACKS[0].roles if role.officer}
PURPOSES = [purpose.id for purpose in PACKS[0].purposes]
QUALIFICATIONS = [each.id for each in PACKS[0].qualifications]
FIELDS = [field.id for field in PACKS[0].fields]
ACTIONS = list(rules.SCOPES)
moments = st.integers(-3, 3).map(lambda hours: NOW + timedelta(hours=hours))

subjects = st.builds(
    Subject,
    client=st.just("app"),
    scopes=st.frozensets(st.sampled_from(sorted(set(rules.SCOPES.values()))), min_size=1),
    account=ids,
    person=ids,
    units=st.frozensets(ids, max_size=2),
    roles=st.lists(st.builds(RoleIn, st.sampled_from([*ROLES, "unheard_of"]), ids), max_size=3).map(tuple),
    clearance=st.sampled_from([*LEVELS, "", "cosmic"]),
    qualifications=st.one_of(st.just(frozenset(QUALIFICATIONS)), st.frozensets(st.sampled_from(QUALIFICATIONS))),
    zone=st.sampled_from(["office", "home"]),
)
records = st.builds(
    RecordFacts,
    id=ids,
    level=st.sampled_from(LEVELS),
    unit=ids,
    custodian=ids,
    named=st.frozensets(ids, max_size=1),
    purposes=st.frozensets(st.sampled_from(PURPOSES)),
    fields=st.lists(st.sampled_from(FIELDS), unique=True, min_size=1, max_size=6).map(tuple),
)
grants = st.builds(
    GrantFacts,
    id=ids,
    action=st.sampled_from([action.value for action in ACTIONS]),
    records=st.frozensets(ids, min_size=1, max_size=2),
    fields=st.frozensets(st.sampled_from(FIELDS), max_size=4),
    purpose=st.sampled_from(PURPOSES),
    not_before=moments,
    until=moments,
    uses_left=st.one_of(st.none(), st.integers(-1, 2)),
    active=st.booleans(),
    holder_account=ids,
    zone=st.sampled_from([None, None, "office"]),
)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Half of the grants fit the use in all but a few points, so that allowed cases are common."""
    subject, record = draw(subjects), draw(records)
    action, purpose = draw(st.sampled_from(ACTIONS)), draw(st.sampled_from([*PURPOSES, "gossip"]))
    grant = draw(st.one_of(st.none(), grants))
    if grant is not None and draw(st.booleans()):
        fitting: dict[str, Any] = {
            "action": action.value,
            "records": frozenset({record.id}),
            "purpose": purpose,
            "not_before": NOW - timedelta(hours=1),
            "until": NOW + timedelta(hours=1),
            "uses_left": 1,
            "active": True,
            "holder_account": subject.account,
        }
        kept = draw(st.sets(st.sampled_from(sorted(fitting)), min_size=len(fitting) - 1))
        grant = replace(grant, **{name: fitting[name] for name in kept})
    if draw(st.booleans()):
        subject = replace(
            subject,
            scopes=frozenset(rules.SCOPES.values()),
            clearance="top_secret",
            qualifications=frozenset(QUALIFICATIONS),
            roles=(),
        )
    return {
        "policy": draw(st.sampled_from(PACKS)),
        "subject": subject,
        "record": record,
        "action": action,
        "purpose": purpose,
        "grant": grant,
        "now": NOW,
        "grant_named": grant is not None or draw(st.integers(0, 3)) == 0,
    }


def relations_of(case: dict[str, Any]) -> Any:
    return rules._relations(case["subject"], case["record"])


def shown(case: dict[str, Any]) -> Disclosure:
    policy: Policy = case["policy"]
    return policy.access_for(case["record"].level).disclosure(relations_of(case))


many = settings(max_examples=400, deadline=None)


@pytest.mark.clause("A4.34")
@many
@given(cases(), st.sampled_from(sorted(OFFICERS)))
def test_an_officer_never_sees_content(case: dict[str, Any], role: str) -> None:
    subject: Subject = case["subject"]
    officer = replace(subject, roles=(*subject.roles, RoleIn(role, IDS[0])))
    decision = decide(**case | {"subject": officer})
    assert not decision.allowed
    assert decision.open == decision.masked == ()
    assert decision.failed is not None
    assert decision.failed.rule in {Rule.SCOPE, Rule.DUTY}


@many
@given(cases())
def test_it_is_allowed_exactly_when_each_rule_asked_by_itself_passes(case: dict[str, Any]) -> None:
    policy, subject, record = case["policy"], case["subject"], case["record"]
    action, purpose, grant, named = case["action"], case["purpose"], case["grant"], case["grant_named"]
    covered = rules._grant_fault(grant, subject, record, action, purpose, NOW) if named else None
    alone = [
        rules._scope(subject, action),
        rules._duty(policy, subject),
        rules._qualification(policy, subject, action),
        rules._clearance(policy, subject, record),
        rules._need_to_know(policy, record, action, relations_of(case), covered, grant_named=named),
        rules._purpose(policy, record, purpose),
        rules._place_and_time(policy, subject, record, grant if named else None, NOW),
    ]
    decision = decide(**case)
    assert decision.allowed == all(check.passed for check in alone)
    assert [check.rule for check in decision.checks] == list(Rule)[: len(decision.checks)]
    assert [check.passed for check in decision.checks[:-1]] == [True] * (len(decision.checks) - 1)
    if not decision.allowed:
        first = next(check for check in alone if not check.passed)
        assert decision.failed is not None
        assert decision.failed.rule is first.rule
        assert decision.failed.reason in {first.reason, Reason.HIDDEN}
        assert decision.open == decision.masked == ()


@pytest.mark.clause("A8.17")
@many
@given(cases())
def test_without_a_grant_nothing_above_what_the_level_shows(case: dict[str, Any]) -> None:
    decision = decide(**case | {"grant": None, "grant_named": False})
    if shown(case) is not Disclosure.OPEN:
        assert decision.open == ()
    if shown(case) is Disclosure.NOTHING or case["action"] is not Action.VIEW:
        assert not decision.allowed


@many
@given(cases())
def test_a_grant_opens_its_fields_and_no_others(case: dict[str, Any]) -> None:
    decision = decide(**case)
    grant, record = case["grant"], case["record"]
    assert set(decision.open) | set(decision.masked) <= set(record.fields)
    assert set(decision.open).isdisjoint(decision.masked)
    by_need_to_know = case["action"] is Action.VIEW and shown(case) is Disclosure.OPEN
    if decision.allowed and case["grant_named"] and not by_need_to_know:
        assert grant is not None
        assert set(decision.open) == (set(grant.fields) or set(record.fields)) & set(record.fields)
    if case["action"] is not Action.VIEW:
        assert decision.masked == ()


@many
@given(cases())
def test_a_named_grant_that_does_not_cover_the_use_never_falls_back(case: dict[str, Any]) -> None:
    grant = case["grant"]
    if grant is None or not case["grant_named"]:
        return
    for spoiled in (
        replace(grant, active=False),
        replace(grant, until=NOW),
        replace(grant, not_before=NOW + timedelta(microseconds=1)),
        replace(grant, uses_left=0),
        replace(grant, records=frozenset({UUID(int=99)})),
        replace(grant, holder_account=UUID(int=99)),
        replace(grant, purpose="another"),
        None,
    ):
        assert not decide(**case | {"grant": spoiled}).allowed


@pytest.mark.clause("A8.22")
@many
@given(cases())
def test_of_a_record_that_one_may_not_know_of_every_refusal_says_the_same(case: dict[str, Any]) -> None:
    grant, record, subject = case["grant"], case["record"], case["subject"]
    knows = (
        rules.may_list(case["policy"], subject, record)
        or shown(case) is not Disclosure.NOTHING
        or (grant is not None and grant.holder_account == subject.account and record.id in grant.records)
    )
    decision = decide(**case)
    failed = decision.failed
    if failed is not None and failed.rule is not Rule.SCOPE:
        assert (failed.reason is Reason.HIDDEN) == (not knows)
        if not knows:
            assert failed.detail is None


@many
@given(cases())
def test_the_decision_depends_on_nothing_but_what_it_is_given(case: dict[str, Any]) -> None:
    assert decide(**case) == decide(**case)


def test_hours_and_zones_of_a_level_are_kept() -> None:
    pack = PACKS[1]
    hours = Hours.model_validate({"start": "09:00", "end": "18:00", "days": [1, 2, 3, 4, 5]})
    access = [each.model_copy(update={"hours": hours, "zones": ("office",)}) for each in pack.access]
    policy = pack.model_copy(update={"access": tuple(access)})
    record = RecordFacts(IDS[0], "internal", IDS[0], IDS[1], frozenset(), frozenset({"service"}), ("name",))
    subject = Subject(
        client="app",
        scopes=frozenset(rules.SCOPES.values()),
        account=IDS[1],
        person=IDS[1],
        clearance="internal",
        qualifications=frozenset(QUALIFICATIONS),
        zone="office",
    )
    at = {"noon": NOW, "night": NOW + timedelta(hours=8), "sunday": NOW - timedelta(days=1)}

    def reason(who: Subject, when: datetime) -> Reason | None:
        failed = decide(policy, who, record, Action.VIEW, "service", None, when).failed
        return failed.reason if failed else None

    assert reason(subject, at["noon"]) is None
    assert reason(subject, at["night"]) is Reason.OUTSIDE_HOURS
    assert reason(subject, at["sunday"]) is Reason.OUTSIDE_HOURS
    assert reason(replace(subject, zone="home"), at["noon"]) is Reason.OUTSIDE_ZONE


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.pack)
def test_every_refusal_for_want_of_a_grant_names_a_flow(pack: Policy) -> None:
    for level in LEVELS:
        for action in ACTIONS:
            [needed] = rules.approvals_needed(pack, action, level)
            assert needed["stages"]
