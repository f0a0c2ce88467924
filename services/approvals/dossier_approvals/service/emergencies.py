"""Emergency access: taken at once by one person, told to others, reviewed by one of them, and never prolonged."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import emergency_repository, emergency_rules, repository, rules
from dossier_approvals.emergency_repository import Found
from dossier_approvals.emergency_rules import FLOW, STAGE, Plea, Verdict
from dossier_approvals.emergency_schemas import EmergencyShown, ReviewMade
from dossier_approvals.errors import AlreadyReviewed, EmergencyOpen, SameUser, VacantRole
from dossier_approvals.rules import GrantState, RequestState, Wish
from dossier_approvals.service import cases, grants, views
from dossier_approvals.service.offices import Place, office_of
from dossier_approvals.service.requests import Descriptor, describe, ensure_usable
from dossier_common import directory, outbox
from dossier_common.contracts.approvals import (
    EmergencyReviewed,
    EmergencyReviewOverdue,
    EmergencyUnjustified,
    EmergencyUsed,
    GrantIssued,
    GrantRevoked,
)
from dossier_common.directory import Holder
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.peers import Peers
from dossier_common.policy import Action, EmergencyRule, OnTimeout, Policy
from dossier_common.problems import Hidden, Invalid, NotFound, Unavailable
from dossier_common.reach import reaches, units_reached
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts

_TITLE = {"zh": "应急访问复核", "en": "Review of emergency access"}


@dataclass(frozen=True, slots=True)
class Means:
    """What these use cases decide and act with."""

    policy: Policy
    peers: Peers
    texts: SealedTexts
    now: datetime


async def use_emergency(session: AsyncSession, means: Means, plea: Plea, by: Subject) -> UUID:
    """The emergency access with its grant, usable at once; its reviewers are found and frozen now.

    Raises PersonNeeded, NoEmergencyAccess, DutyConflict, NotQualified, NotFound, ClearanceTooLow, Hidden,
    RecordUnavailable, Invalid, VacantRole where nobody could review it, EmergencyOpen.
    """
    account, person = cases.person_of(by)
    rule = emergency_rules.rule_of(means.policy)
    emergency_rules.ensure_fit(means.policy, by)
    faults = rules.unknown_names(means.policy, Wish(Action.VIEW, (plea.record,), plea.purpose, fields=plea.fields))
    if faults:
        raise Invalid(errors=faults)
    record = await _described(means.peers, plea.record)
    emergency_rules.ensure_covered(means.policy, by, record.level)
    ensure_usable(record)
    unit = await directory.unit_of(session, account)
    if unit is None:
        raise Unavailable("The directory has not told of this account yet.")
    told = await _told(session, rule, Place(unit, (record.unit,), means.now), person)
    terms = emergency_rules.terms_of(rule, means.now)
    assert terms.uses is not None
    used = EmergencyUsed(
        emergency=new_id(),
        grant=new_id(),
        record=plea.record,
        level=record.level,
        fields=plea.fields,
        purpose=plea.purpose,
        user_account=account,
        user_person=person,
        until=terms.until,
        uses=terms.uses,
        review_by=rule.review_within.after(means.now),
        told_persons=tuple(sorted({holder.person for holder in told})),
        policy=means.policy.digest,
    )
    await _add_request(session, means, rule, used, record, unit, told, plea.reason)
    issued = _grant_of(used, terms)
    await cases.keep_grant(session, issued, means.now)
    emergency = {"id": used.emergency, "grant": used.grant, "person": person, "record": used.record}
    if not await emergency_repository.add(session, emergency | {"review_by": used.review_by}):
        raise EmergencyOpen("It has to be reviewed first.")
    await outbox.add_all(session, [used, issued], by=by, at=means.now)
    return used.emergency


async def _described(peers: Peers, record: UUID) -> Descriptor:
    try:
        (described,) = await describe(peers, (record,))
    except NotFound as error:
        raise NotFound(errors=[emergency_rules.NO_SUCH_RECORD]) from error
    return described


async def _told(session: AsyncSession, rule: EmergencyRule, place: Place, user: UUID) -> list[Holder]:
    """The holders of all offices that are told, without the user; at least one, or VacantRole."""
    found: dict[UUID, Holder] = {}
    for office in rule.tell:
        for holder in await office_of(session, office, place) or []:
            if holder.person != user:
                found.setdefault(holder.account, holder)
    if not found:
        raise VacantRole(STAGE, rule.tell[0].role, place.record_units[0])
    return list(found.values())


def _grant_of(used: EmergencyUsed, terms: rules.Terms) -> GrantIssued:
    return GrantIssued(
        grant=used.grant,
        request=used.emergency,
        action=Action.VIEW.value,
        records=(used.record,),
        fields=used.fields,
        purpose=used.purpose,
        not_before=terms.not_before,
        until=terms.until,
        uses=terms.uses,
        conditions=terms.conditions,
        holder_account=used.user_account,
        holder_person=used.user_person,
        persons=(used.user_person,),
        policy=used.policy,
    )


async def _add_request(
    session: AsyncSession,
    means: Means,
    rule: EmergencyRule,
    used: EmergencyUsed,
    record: Descriptor,
    unit: UUID,
    told: list[Holder],
    reason: str,
) -> None:
    """The request that stands behind the grant: granted already, with one stage that waits, the review."""
    request = {
        "id": used.emergency,
        "state": RequestState.GRANTED.value,
        "action": Action.VIEW.value,
        "flow": FLOW,
        "policy": used.policy,
        "purpose": used.purpose,
        "fields": list(used.fields),
        "until": used.until,
        "uses": used.uses,
        "limits": rule.model_dump(mode="json"),
        "requester_account": used.user_account,
        "requester_person": used.user_person,
        "requester_unit": unit,
        "texts": means.texts.seal(orjson.dumps({"reason": reason, "profile": {}}).decode()),
        "round": 1,
        "position": 0,
        "created_at": means.now,
        "ended_at": means.now,
    }
    place = {"request": used.emergency, "position": 0}
    offices = dict.fromkeys((holder.role, holder.unit) for holder in told)
    stage = place | {
        "name": STAGE,
        "title": _TITLE,
        "offices": [{"role": role, "unit": str(of)} for role, of in offices],
        "quorum": "any",
        "needed": 1,
        "return_to": 0,
        "time_limit": str(rule.review_within),
        "on_timeout": OnTimeout.EXPIRE.value,
    }
    await repository.add_request(
        session,
        request,
        [place | {"record": used.record, "unit": record.unit, "level": record.level}],
        [stage],
        [place | {"account": each.account, "person": each.person, "escalated": False} for each in told],
    )
    step = {"id": new_id(), "request": used.emergency, "round": 1, "position": 0}
    await repository.add_step(session, step | {"opened_at": means.now, "due_at": used.review_by})


async def review_emergency(
    session: AsyncSession, means: Means, emergency_id: UUID, verdict: Verdict, comment: str, by: Subject
) -> None:
    """Keeps the one review; an unjustified access ends at once. Reviews of one access come one at a time.

    Raises PersonNeeded, NotFound, Hidden, SameUser, AlreadyReviewed.
    """
    account, person = cases.person_of(by)
    emergency = await emergency_repository.locked(session, emergency_id)
    await _seen(session, means, emergency_id, by)
    assert emergency is not None
    if emergency.person == person:
        raise SameUser("Another person reviews it.")
    if emergency.reviewed_at is not None:
        raise AlreadyReviewed
    sealed = means.texts.seal(comment)
    review = {"emergency": emergency.id, "user_person": emergency.person, "person": person, "account": account}
    await emergency_repository.add_review(
        session, review | {"verdict": verdict.value, "comment": sealed, "at": means.now}
    )
    event = EmergencyReviewed if verdict is Verdict.JUSTIFIED else EmergencyUnjustified
    found = event(emergency=emergency.id, record=emergency.record, user_person=emergency.person, reviewer_person=person)
    await outbox.add(session, found, by=by, at=means.now)
    if verdict is Verdict.UNJUSTIFIED:
        await _end(session, emergency.grant, sealed, by, means.now)


async def _end(session: AsyncSession, grant_id: UUID, reason: bytes, by: Subject, now: datetime) -> None:
    grant = await repository.grant(session, grant_id, lock=True)
    assert grant is not None
    if grants.state_of(grant, now) is GrantState.ACTIVE:
        await repository.end_grant(session, grant.id, GrantState.REVOKED, now, reason)
        await outbox.add(session, GrantRevoked(grant=grant.id), by=by, at=now)


async def flag_overdue_review(session: AsyncSession, now: datetime) -> bool:
    """Says once of an access whose review is overdue that it is; False when there is none to be said of."""
    emergency = await emergency_repository.overdue(session, now)
    if emergency is None:
        return False
    await emergency_repository.set_overdue(session, emergency.id, now)
    overdue = EmergencyReviewOverdue(emergency=emergency.id, record=emergency.record, user_person=emergency.person)
    await outbox.add(session, overdue, by=None, at=now)
    return True


async def show_emergency(session: AsyncSession, means: Means, emergency_id: UUID, by: Subject) -> EmergencyShown:
    """One emergency access, to its user and to reviewers. Raises NotFound, Hidden."""
    return _shown(await _seen(session, means, emergency_id, by), means)


async def _seen(session: AsyncSession, means: Means, emergency_id: UUID, by: Subject) -> Found:
    """To its user; to a reviewer who was told, or whose office is in the record's unit or above it."""
    found = await emergency_repository.one(session, emergency_id)
    if found is None:
        raise NotFound
    if by.person is not None and found.emergency.person == by.person:
        return found
    if Scope.EMERGENCY_REVIEW in by.scopes:
        told = by.person is not None and await emergency_repository.was_told(session, emergency_id, by.person)
        if told or await reaches(session, means.policy, by, Scope.EMERGENCY_REVIEW, found.unit):
            return found
    raise Hidden


async def list_emergencies(
    session: AsyncSession, means: Means, by: Subject, *, waiting: bool, limit: int, before: UUID | None
) -> list[EmergencyShown]:
    """A page of what the caller may see, the newest first; one more than the limit when there is a next page."""
    seen = None
    if Scope.EMERGENCY_REVIEW not in by.scopes:
        if by.person is None:
            return []
        seen = emergency_repository.used_by(by.person)
    elif by.person is not None:
        units = await units_reached(session, means.policy, by, Scope.EMERGENCY_REVIEW)
        seen = emergency_repository.reviewed_by(by.person, units or ())
    found = await emergency_repository.several(session, seen, waiting=waiting, limit=limit + 1, before=before)
    return [_shown(each, means) for each in found]


def _shown(found: Found, means: Means) -> EmergencyShown:
    emergency, request, review = found.emergency, found.request, found.review
    return EmergencyShown(
        id=emergency.id,
        record=emergency.record,
        level=found.level,
        fields=request.fields,
        purpose=request.purpose,
        reason=views.opened(means.texts, request)["reason"],
        user_account=request.requester_account,
        user_person=emergency.person,
        used_at=request.created_at,
        policy=request.policy,
        grant=grants.shown(found.grant, [emergency.record], means.now),
        state=emergency_rules.review_state(emergency.review_by, reviewed=review is not None, now=means.now),
        review_by=emergency.review_by,
        review=ReviewMade(
            verdict=Verdict(review.verdict),
            comment=means.texts.open(review.comment),
            person=review.person,
            at=review.at,
        )
        if review
        else None,
    )
