"""What a request must contain, who may decide it, what becomes of it, and what its grant allows. Pure.

A case is the stages of one request with the votes of its present round. It is granted only when each stage has its
quorum, in one round the persons are distinct, and none of them is the requester (A1.5, invariant 4).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal
from uuid import UUID

from dossier_approvals.errors import (
    NeededLater,
    NotYourStage,
    RequestClosed,
    SelfApproval,
    StageClosed,
    TermPassed,
    invalid,
)
from dossier_common.contracts.approvals import Conditions
from dossier_common.policy import Action, Flow, GrantTerms, Policy, RequestPart, RequestRule
from dossier_common.problems import Fault, Invalid, SamePerson

Quorum = Literal["all", "any", "n"]
LATEST_START = timedelta(days=366)
USABLE = frozenset({"active", "ended"})
"""States of a record in which it can be asked for."""


class RequestState(StrEnum):
    """Where a request stands."""

    OPEN = "open"
    GRANTED = "granted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class StepState(StrEnum):
    """Where one stage of one round stands; `waiting` is a stage that was not reached yet."""

    WAITING = "waiting"
    OPEN = "open"
    APPROVED = "approved"
    DONE = "done"
    REJECTED = "rejected"
    RETURNED = "returned"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """What an approver says; `done` is for stages that do something, `approve` and `reject` for those that decide."""

    APPROVE = "approve"
    REJECT = "reject"
    RETURN = "return"
    DONE = "done"


class GrantState(StrEnum):
    """Where a grant stands. The last two follow from the clock and from the uses that records told of."""

    ACTIVE = "active"
    REVOKED = "revoked"
    RETURNED = "returned"
    ENDED = "ended"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"


class Move(StrEnum):
    """What a vote does to its case."""

    WAIT = "wait"
    ADVANCE = "advance"
    GRANT = "grant"
    REJECT = "reject"
    RETURN = "return"


# ---- what a request is for and contains


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    action: str
    records: tuple[UUID, ...]
    purpose: str = ""
    reason: str = ""
    profile: Mapping[str, str] | None = None
    fields: tuple[str, ...] = ()
    not_before: datetime | None = None
    until: datetime | None = None
    uses: int | None = None
    recipient: UUID | None = None


def flow_of(policy: Policy, action: str, levels: Sequence[str]) -> Flow:
    """The one flow of all records. Raises Invalid where there is none, or more than one."""
    if action == Action.DESTROY:
        raise invalid("/body/action", "proposed-elsewhere", "Destruction is proposed at the retention service.")
    flows = [policy.flow_for(action, level, "insider") for level in levels]
    first = flows[0]
    for number, flow in enumerate(flows):
        if flow is None:
            raise invalid(f"/body/records/{number}", "no-flow", "The policy provides no way to ask for this.")
        if first is None or flow.id != first.id:
            raise invalid(f"/body/records/{number}", "other-flow", "This record goes another way: ask for it apart.")
    if first is None:
        raise invalid("/body/records", "no-flow", "The policy provides no way to ask for this.")
    return first


def faults_of(policy: Policy, flow: Flow, wish: Wish, now: datetime) -> list[Fault]:
    """Everything that keeps this wish from becoming a request of the flow (A2.7, A8.17)."""
    return [*unknown_names(policy, wish), *missing_parts(flow, wish), *wrong_term(wish, now)]


def unknown_names(policy: Policy, wish: Wish) -> list[Fault]:
    """The purpose and the fields that the policy does not know."""
    faults = []
    if wish.purpose and wish.purpose not in {purpose.id for purpose in policy.purposes}:
        faults.append(Fault(pointer="/body/purpose", code="unknown-purpose", detail="The policy has no such purpose."))
    known = {field.id for field in policy.fields}
    faults += [
        Fault(pointer=f"/body/fields/{number}", code="unknown-field", detail="The policy has no such field.")
        for number, field in enumerate(wish.fields)
        if field not in known
    ]
    return faults


def missing_parts(flow: Flow, wish: Wish) -> list[Fault]:
    """One fault for each required part that is missing, and one when none of `one_of` is there (A8.18.4)."""
    rule: RequestRule = flow.request
    faults = [_missing(part) for part in rule.required if not _has(wish, part)]
    if flow.recipient.needed and wish.recipient is None:
        detail = "Name the partner that it is for, by its id."
        faults = [fault for fault in faults if fault.pointer != pointer_of(RequestPart.RECIPIENT)]
        faults.append(Fault(pointer="/body/recipient", code="missing", detail=detail))
    if wish.recipient is not None and not flow.recipient.needed:
        detail = "Nothing is handed to a partner on this way."
        faults.append(Fault(pointer="/body/recipient", code="unexpected", detail=detail))
    if rule.one_of and not any(_has(wish, part) for part in rule.one_of):
        names = ", ".join(rule.one_of)
        detail = f"One of these is needed: {names}."
        faults.append(Fault(pointer=pointer_of(rule.one_of[0]), code="missing", detail=detail))
    if flow.grant.term_max is None and wish.until is None and RequestPart.UNTIL not in rule.required:
        faults.append(_missing(RequestPart.UNTIL))
    return faults


def wrong_term(wish: Wish, now: datetime) -> list[Fault]:
    """A term that is over before it begins, or begins too far away to be foreseen."""
    faults = []
    if wish.not_before is not None and wish.not_before > now + LATEST_START:
        detail = "A grant starts within a year."
        faults.append(Fault(pointer="/body/not_before", code="too-late", detail=detail))
    if wish.until is not None and wish.until <= max(now, wish.not_before or now):
        detail = "The end lies after the start and after now."
        faults.append(Fault(pointer="/body/until", code="too-early", detail=detail))
    return faults


_OWN_PLACE = {
    RequestPart.OBJECT: "records",
    RequestPart.PURPOSE: "purpose",
    RequestPart.REASON: "reason",
    RequestPart.REQUESTER_PROFILE: "requester_profile",
    RequestPart.FIELDS: "fields",
    RequestPart.NOT_BEFORE: "not_before",
    RequestPart.UNTIL: "until",
}


def pointer_of(part: RequestPart) -> str:
    """Where in the body a part stands; what has no place of its own stands in the requester's profile."""
    return f"/body/{_OWN_PLACE[part]}" if part in _OWN_PLACE else f"/body/requester_profile/{part.value}"


def _missing(part: RequestPart) -> Fault:
    return Fault(pointer=pointer_of(part), code="missing", detail=f"The request needs: {part.value}.")


def _has(wish: Wish, part: RequestPart) -> bool:
    profile = {name: text for name, text in (wish.profile or {}).items() if text.strip()}
    own: dict[RequestPart, bool] = {
        RequestPart.OBJECT: bool(wish.records),
        RequestPart.PURPOSE: bool(wish.purpose.strip()),
        RequestPart.REASON: bool(wish.reason.strip()),
        RequestPart.REQUESTER_PROFILE: bool(profile),
        RequestPart.FIELDS: bool(wish.fields),
        RequestPart.NOT_BEFORE: wish.not_before is not None,
        RequestPart.UNTIL: wish.until is not None,
    }
    if part is RequestPart.RECIPIENT and wish.recipient is not None:
        return True
    return own.get(part, part.value in profile)


# ---- who decides


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage with the persons who may decide it, and how many of them must."""

    name: str
    persons: frozenset[UUID]
    needed: int = 1
    quorum: Quorum = "any"
    doing: bool = False
    return_to: int = 0


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's verdict in one stage of the present round."""

    person: UUID
    position: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Case:
    """A request as its rules see it; `votes` are those of the present round."""

    requester: UUID
    stages: tuple[Stage, ...]
    state: RequestState = RequestState.OPEN
    round: int = 1
    position: int = 0
    votes: tuple[Vote, ...] = ()

    @property
    def stage(self) -> Stage:
        """The stage that is open."""
        return self.stages[self.position]

    def agreed(self, position: int) -> int:
        """How many have approved, or done, in a stage of this round."""
        return sum(v.position == position and v.verdict in {Verdict.APPROVE, Verdict.DONE} for v in self.votes)


def undecidable(
    stages: Sequence[Stage], excluded: Collection[UUID], demands: Mapping[int, int] | None = None
) -> int | None:
    """The first stage that cannot get its quorum of persons who are distinct over all stages and not excluded.

    None when all can: a matching of persons to the places of all stages (augmenting paths, so a person moves to
    another stage where that helps). `demands` replaces the number of places of a stage.
    """
    taken: dict[UUID, int] = {}

    def place(position: int, tried: set[UUID]) -> bool:
        for person in sorted(stages[position].persons - tried):
            if person in excluded or person in tried:
                continue
            tried.add(person)
            if person not in taken or place(taken[person], tried):
                taken[person] = position
                return True
        return False

    for position, stage in enumerate(stages):
        for _ in range((demands or {}).get(position, stage.needed)):
            if not place(position, set()):
                return position
    return None


def stuck_at(case: Case) -> int | None:
    """The stage of an open case that can no longer get its quorum in this round; None while all can."""
    voters = {vote.person for vote in case.votes} | {case.requester}
    ahead = range(case.position, len(case.stages))
    demands = {n: max(case.stages[p].needed - case.agreed(p), 0) for n, p in enumerate(ahead)}
    found = undecidable([case.stages[p] for p in ahead], voters, demands)
    return None if found is None else found + case.position


def ensure_may_decide(case: Case, person: UUID, at_round: int, position: int, voters: Collection[UUID]) -> None:
    """Raises SelfApproval, SamePerson, NotYourStage, RequestClosed or StageClosed, in this order.

    `voters` are the persons who decided in the round of the task, which may be over.
    """
    if person == case.requester:
        raise SelfApproval
    if person in voters:
        raise SamePerson
    if person not in case.stages[position].persons:
        raise NotYourStage
    if case.state is not RequestState.OPEN:
        raise RequestClosed(case.state)
    if (at_round, position) != (case.round, case.position):
        raise StageClosed("decided")


def ensure_fits(stage: Stage, verdict: Verdict) -> None:
    """Raises Invalid for a verdict that this kind of stage does not know; a return is always possible."""
    allowed = {Verdict.DONE, Verdict.RETURN} if stage.doing else {Verdict.APPROVE, Verdict.REJECT, Verdict.RETURN}
    if verdict not in allowed:
        names = ", ".join(sorted(allowed))
        raise Invalid(errors=[Fault(pointer="/body/verdict", code="verdict", detail=f"This stage takes: {names}.")])


def decide(case: Case, person: UUID, verdict: Verdict) -> tuple[Case, Move]:
    """The case after this vote in its open stage.

    One return opens a new round. One rejection ends the case, but in a vote of n it ends when n cannot be reached.
    A stage that was vacant before stands in the way of no other: it waits for a holder of its office.
    Raises what `ensure_may_decide` and `ensure_fits` raise, and NeededLater.
    """
    ensure_may_decide(case, person, case.round, case.position, {vote.person for vote in case.votes})
    ensure_fits(case.stage, verdict)
    after = replace(case, votes=(*case.votes, Vote(person, case.position, verdict)))
    if verdict is Verdict.RETURN:
        back = case.stage.return_to
        return replace(case, round=case.round + 1, position=back, votes=()), Move.RETURN
    vacant = stuck_at(case)
    stuck = stuck_at(after)
    if verdict is Verdict.REJECT:
        if case.stage.quorum != "n" or stuck not in {None, vacant}:
            return replace(after, state=RequestState.REJECTED), Move.REJECT
        return after, Move.WAIT
    if stuck is not None and stuck != vacant:
        raise NeededLater(case.stages[stuck].name)
    if after.agreed(case.position) < case.stage.needed:
        return after, Move.WAIT
    if case.position + 1 < len(case.stages):
        return replace(after, position=case.position + 1), Move.ADVANCE
    return replace(after, state=RequestState.GRANTED), Move.GRANT


# ---- what is granted


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits of a grant: from `not_before`, before `until`, at most `uses` times (None: no count)."""

    not_before: datetime
    until: datetime
    uses: int | None
    conditions: Conditions


def terms_of(limits: GrantTerms, wish: Wish, now: datetime) -> Terms:
    """What the wish gets within the flow's limits: a shorter term and fewer uses are honoured, longer ones cut.

    The term runs from the approval, or from the start that was asked for. Raises TermPassed.
    """
    start = max(now, wish.not_before or now)
    ends = [wish.until] if wish.until is not None else []
    if limits.term_max is not None:
        ends.append(limits.term_max.after(start))
    if not ends or min(ends) <= start:
        raise TermPassed("Ask again with a later end.")
    until = min(ends)
    counts = [count for count in (limits.uses_limit, wish.uses) if count is not None]
    conditions = Conditions(
        view_only=limits.view_only,
        watermark=limits.watermark,
        zone=limits.zones[0] if limits.zones else None,
        stamp=limits.stamp,
        receipt=limits.receipt,
        encrypted=limits.encrypted,
        return_by=until if limits.return_required else None,
    )
    return Terms(start, until, min(counts, default=None), conditions)


def grant_state(stored: GrantState, until: datetime, uses: int | None, counted: int, now: datetime) -> GrantState:
    """How a grant stands now: an act ends it first, then the clock, then the count."""
    if stored is not GrantState.ACTIVE:
        return stored
    if now >= until:
        return GrantState.EXPIRED
    return GrantState.EXHAUSTED if uses is not None and counted >= uses else GrantState.ACTIVE


def persons_of(requester: UUID, deciders: Iterable[UUID]) -> tuple[UUID, ...]:
    """The persons of a case, the requester first, nobody twice."""
    return tuple(dict.fromkeys((requester, *deciders)))
