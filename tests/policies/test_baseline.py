"""B6, the baseline: what its clauses say, shown on the pack."""

from pathlib import Path

import pytest

from dossier_common.policy import Basis, DisposalAction, FieldKind, Mask, Period, Policy, load_policy
from dossier_common.scopes import Scope


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(Path(__file__).parents[2] / "deploy" / "policies" / "baseline.yaml")


@pytest.mark.clause("B6.6")
def test_the_level_follows_importance_and_sensitivity(policy: Policy) -> None:
    given = {
        importance: policy.classify("person", importance, {FieldKind.IDENTITY}).level
        for importance in ("general", "important", "vital")
    }
    assert given == {"general": "internal", "important": "secret", "vital": "confidential"}
    assert policy.classify("person", "general", {FieldKind.SENSITIVE}).level == "secret"
    assert policy.classify("organisation", "vital", ()).information_class == 1


@pytest.mark.clause("B6.7")
def test_nobody_uses_records_untrained_and_training_comes_again_each_year(policy: Policy) -> None:
    needed = {item.id: item.term for item in policy.qualifications_for(Scope.RECORDS_READ)}
    assert needed == {"confidentiality_agreement": None, "training_passed": Period(years=1)}
    assert next(duty.every for duty in policy.duties if duty.id == "training") == Period(years=1)


@pytest.mark.clause("B6.8")
def test_every_field_that_tells_who_someone_is_has_a_mask(policy: Policy) -> None:
    bare = {field.id for field in policy.fields if field.mask is Mask.NONE}
    assert bare == {"identifier_type"}
    assert policy.passwords.letters_and_digits


@pytest.mark.clause("B6.9")
def test_every_purpose_is_covered_and_marketing_only_by_consent(policy: Policy) -> None:
    assert policy.purpose("marketing").basis is Basis.CONSENT
    assert policy.purpose("service").basis is Basis.CONTRACT


@pytest.mark.clause("B6.10")
def test_giving_to_outside_needs_an_agreement_and_an_assessment_or_the_law(policy: Policy) -> None:
    partner = policy.flow_for("share", "internal", recipient="partner")
    authority = policy.flow_for("share", "internal", recipient="authority")
    assert partner is not None
    assert authority is not None
    assert (partner.recipient.agreement, partner.recipient.assessment) == ("required", "required")
    assert {"identity_document", "legal_document"} <= set(authority.request.required)


@pytest.mark.clause("B6.11")
@pytest.mark.parametrize("customer", ["person", "organisation"])
def test_every_record_has_a_term_and_an_end(policy: Policy, customer: str) -> None:
    for level in policy.levels:
        rule = policy.retention_for(customer, level.id)
        assert rule is not None
        assert rule.disposal.action is DisposalAction.DESTROY
        assert not rule.term.is_zero


@pytest.mark.clause("B6.12")
def test_the_auditor_reads_everything_and_changes_nothing(policy: Policy) -> None:
    scopes = policy.scopes_of(["security_auditor"])
    assert {Scope.AUDIT_READ, Scope.AUDIT_EXPORT, Scope.AUDIT_VERIFY} <= scopes
    for scope in ("requests:decide", "accounts:manage", "roles:assign", "records:read", "duties:manage"):
        assert policy.conflicts_in({*scopes, scope}), scope


@pytest.mark.clause("B6.14")
def test_a_leak_is_told_within_an_hour(policy: Policy) -> None:
    leak = next(rule for rule in policy.incidents if rule.id == "leak")
    assert min(str(notice.within) for notice in leak.tell if notice.role == "compliance_officer") == "PT1H"
    assert set(leak.closing_needs) == {"cause", "remedy"}
