"""A8, the customer service department: what its clauses say, shown on the pack."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dossier_common.policy import Disclosure, Doing, Flow, Period, Policy, Relation, load_policy
from dossier_common.scopes import Scope

ALL_LEVELS = ["internal", "secret", "confidential", "top_secret"]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(Path(__file__).parents[2] / "deploy" / "policies" / "service-desk.yaml")


def flow(policy: Policy, action: str, level: str = "secret", requester: str = "insider") -> Flow:
    found = policy.flow_for(action, level, requester)
    assert found is not None
    return found


def offices(found: Flow) -> list[list[tuple[str, str]]]:
    return [[(approver.role, approver.of.value) for approver in stage.approvers] for stage in found.stages]


@pytest.mark.clause("A8.3")
def test_customers_are_general_or_special_persons_or_organisations(policy: Policy) -> None:
    assert [item.id for item in policy.customer_classes] == ["general", "special"]
    for customer in ("person", "organisation"):
        assert policy.form_for(customer, "general") == policy.form_for(customer, "special")


@pytest.mark.clause("A8.4")
def test_records_are_of_one_standard_form_and_opened_at_the_clerks_desk(policy: Policy) -> None:
    assert policy.form_for("person").required == ("name", "identifier_type", "identifier", "phone")
    assert "legal_representative" in policy.form_for("organisation").required
    assert Scope.RECORDS_REGISTER in policy.role("records_clerk").scopes
    assert Scope.RECORDS_REGISTER not in policy.role("collector").scopes


@pytest.mark.clause("A8.6")
def test_records_are_found_by_name_identifier_and_phone(policy: Policy) -> None:
    assert {"name", "identifier", "phone"} <= {field.id for field in policy.fields if field.indexed}


@pytest.mark.clause("A8.10")
def test_statistics_for_others_are_examined_by_the_service_manager_and_approved_by_the_general_manager(
    policy: Policy,
) -> None:
    assert offices(flow(policy, "report")) == [[("service_manager", "record.unit")], [("general_manager", "company")]]


@pytest.mark.clause("A8.11")
def test_a_single_item_is_corrected_by_the_general_manager_and_filed(policy: Policy) -> None:
    correct = flow(policy, "correct")
    assert offices(correct)[0] == [("general_manager", "company")]
    assert [stage.doing for stage in correct.stages] == [None, Doing.ARCHIVE]


@pytest.mark.clause("A8.13")
def test_reports_leave_after_supervisor_and_service_manager(policy: Policy) -> None:
    release = flow(policy, "release")
    assert offices(release) == [[("information_supervisor", "record.unit")], [("service_manager", "record.unit")]]


@pytest.mark.clause("A8.14")
def test_the_carriers_are_inspected_every_half_year(policy: Policy) -> None:
    duty = next(duty for duty in policy.duties if duty.id == "file-inspection")
    assert (duty.every, duty.assignee, duty.form) == (Period(months=6), "records_clerk", "carrier_condition")


@pytest.mark.clause("A8.17")
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_nobody_who_has_nothing_to_do_with_a_record_sees_it_open(policy: Policy, level: str) -> None:
    for relations in (frozenset[Relation](), frozenset({Relation.UNIT})):
        assert policy.access_for(level).disclosure(relations) is not Disclosure.OPEN


@pytest.mark.clause("A8.18.1")
def test_a_request_to_view_names_object_purpose_reason_and_profile(policy: Policy) -> None:
    for requester in ("insider", "outsider"):
        for level in ALL_LEVELS:
            assert {"object", "purpose", "reason", "requester_profile"} <= set(
                flow(policy, "view", level, requester).request.required
            )


@pytest.mark.clause("A8.18.2")
@pytest.mark.clause("A8.18.3")
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_own_head_signs_and_then_the_service_department_examines(policy: Policy, level: str) -> None:
    view = flow(policy, "view", level)
    assert offices(view) == [[("department_head", "requester.unit")], [("service_manager", "record.unit")]]
    assert view.grant.view_only


@pytest.mark.clause("A8.18.4")
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_outsiders_bring_a_letter_or_card_and_need_the_manager_for_classified_files(policy: Policy, level: str) -> None:
    view = flow(policy, "view", level, "outsider")
    assert set(view.request.one_of) == {"introduction_letter", "work_card"}
    assert offices(view)[0] == [("records_clerk", "record.unit")]
    assert ([("service_manager", "record.unit")] in offices(view)) == (level != "internal")


@pytest.mark.clause("A8.19.2")
def test_a_loan_is_applied_for_as_a_view_is(policy: Policy) -> None:
    assert set(flow(policy, "view").request.required) <= set(flow(policy, "borrow").request.required)


@pytest.mark.clause("A8.19.3")
@pytest.mark.clause("A8.19.4")
def test_own_head_signs_a_loan_and_the_clerk_approves_it(policy: Policy) -> None:
    loan = flow(policy, "borrow")
    assert offices(loan) == [[("department_head", "requester.unit")], [("records_clerk", "record.unit")]]
    assert Scope.REQUESTS_DECIDE in policy.role("records_clerk").scopes


@pytest.mark.clause("A8.19.5")
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_a_loan_lasts_at_most_three_days(policy: Policy, level: str) -> None:
    terms = flow(policy, "borrow", level).grant
    start = datetime(2026, 2, 27, 9, tzinfo=UTC)
    assert terms.term_max is not None
    assert terms.term_max.after(start) - start == timedelta(days=3)
    assert terms.receipt
    assert "copies" in flow(policy, "borrow", level).request.required


@pytest.mark.clause("A8.20")
def test_a_loan_has_to_come_back_and_the_manager_is_told_when_it_does_not(policy: Policy) -> None:
    terms = flow(policy, "borrow").grant
    assert terms.return_required
    assert terms.overdue is not None
    assert terms.overdue.after.is_zero
    assert terms.overdue.escalate_to == "service_manager"


@pytest.mark.clause("A8.22")
@pytest.mark.parametrize("level", ["confidential", "top_secret"])
def test_confidential_files_are_marked_apart_and_shown_to_nobody_without_permission(policy: Policy, level: str) -> None:
    found = policy.level(level)
    assert (found.catalogue_mark, found.listed_to, found.separate_storage) == (True, "named", True)
    access = policy.access_for(level)
    assert access.disclosure(frozenset()) is Disclosure.NOTHING
    assert access.disclosure(frozenset(Relation)) is Disclosure.MASKED
    assert not policy.level("secret").catalogue_mark


@pytest.mark.clause("A8.23.1")
@pytest.mark.parametrize("action", ["copy", "extract", "print", "export"])
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_the_general_manager_or_the_information_supervisor_releases_a_copy(
    policy: Policy, action: str, level: str
) -> None:
    found = flow(policy, action, level)
    assert offices(found) == [[("general_manager", "company"), ("information_supervisor", "record.unit")]]
    assert found.stages[0].needed(2) == 1
    assert found.grant.uses_limit == 1


@pytest.mark.clause("A8.23.2")
def test_carrying_out_names_its_safety_measures_and_ends(policy: Policy) -> None:
    found = flow(policy, "carry_out")
    assert {"method", "until"} <= set(found.request.required)
    assert found.grant.encrypted
    assert found.grant.return_required


@pytest.mark.clause("A8.24")
def test_supervisor_and_service_manager_agree_before_anything_is_given_outside(policy: Policy) -> None:
    found = flow(policy, "share")
    assert offices(found) == [[("information_supervisor", "record.unit")], [("service_manager", "record.unit")]]
    assert (found.recipient.agreement, found.recipient.assessment) == ("required", "required")


@pytest.mark.clause("A8.25")
def test_what_is_past_its_term_is_destroyed_by_others_than_those_who_approve(policy: Policy) -> None:
    rule = policy.retention_for("person", "secret")
    assert rule is not None
    assert (rule.trigger, rule.term, rule.disposal.methods.paper) == (
        "relationship_ended",
        Period(years=5),
        "shredding",
    )
    approvers = {role for stage in offices(policy.flow(rule.disposal.flow)) for role, _ in stage}
    assert approvers == {"information_supervisor", "service_manager"}
    assert (rule.disposal.executor, rule.disposal.witness) == ("records_clerk", "inspector")


@pytest.mark.clause("A8.27")
def test_a_leak_is_told_at_once_to_supervisor_and_service_manager(policy: Policy) -> None:
    leak = next(rule for rule in policy.incidents if rule.id == "leak")
    assert {(notice.role, notice.within.is_zero) for notice in leak.tell} == {
        ("information_supervisor", True),
        ("service_manager", True),
    }
    for role in ("information_supervisor", "service_manager"):
        assert Scope.INCIDENTS_HANDLE in policy.role(role).scopes


@pytest.mark.clause("A8.29")
def test_a_pack_takes_effect_by_the_general_manager_who_did_not_propose_it(policy: Policy) -> None:
    approving = {role.id for role in policy.roles if Scope.POLICY_APPROVE in role.scopes}
    assert approving == {"general_manager"}
    assert (Scope.POLICY_PROPOSE, Scope.POLICY_APPROVE) in [case.scopes for case in policy.case_conflicts]


def test_an_employee_can_find_ask_and_read_and_decide_nothing(policy: Policy) -> None:
    scopes = policy.scopes_of(["collector"])
    assert {Scope.RECORDS_CATALOGUE, Scope.RECORDS_READ, Scope.REQUESTS_CREATE, Scope.GRANTS_READ} <= scopes
    assert Scope.REQUESTS_DECIDE not in scopes


def test_every_clause_of_the_pack_has_a_test_here(policy: Policy) -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    own = [clause.id for clause in policy.clauses if clause.id.startswith("A8.")]
    assert [clause for clause in own if f'clause("{clause}")' not in source] == []
