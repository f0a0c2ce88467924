"""Use cases of policy versions: one proposes, another approves, and what the deployment brings is noted.

The parts read their policy from the deployment's file when they start, so that an approved version takes effect when
it is put there (docs/decisions/0014-policy-versions.md).
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.gateway import (
    PolicyActivated,
    PolicyApproved,
    PolicyProposed,
    PolicyRejected,
    PolicyUnapproved,
)
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Policy, PolicyError, policy_from_content, policy_from_text
from dossier_common.problems import NotFound, PersonNeeded, SamePerson
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts
from dossier_gateway.errors import DutyConflict
from dossier_gateway.policies import repository
from dossier_gateway.policies.errors import VersionDecided, VersionKnown, refused
from dossier_gateway.policies.repository import Found
from dossier_gateway.policies.schemas import Decision, PolicyShown, PolicySummary, State, Verdict

POLICY_SCOPES: Final = frozenset({Scope.POLICY_PROPOSE, Scope.POLICY_APPROVE})


@dataclass(frozen=True, slots=True)
class Means:
    """What these use cases decide and act with; `packs` is the folder of the deployment's packs."""

    packs: Path
    texts: SealedTexts
    now: datetime


async def propose(session: AsyncSession, means: Means, text: str, by: Subject) -> str:
    """Keeps a version that another person may approve; returns its digest.

    Raises PersonNeeded; FaultyPack with every fault; DutyConflict where one person could hold two duties, or holds them
    now by the roles that he has; VersionKnown.
    """
    account, person = _person(by)
    try:
        policy = await asyncio.to_thread(policy_from_text, text, means.packs)
    except PolicyError as error:
        raise refused(error.faults) from error
    await ensure_apart(session, policy, means.now)
    values = _values(policy, text, means.now) | {"proposer_account": account, "proposer_person": person}
    if not await repository.add(session, values | {"state": State.PROPOSED.value}):
        known = await repository.version(session, policy.digest)
        assert known is not None
        raise VersionKnown(known.digest, known.state)
    proposed = PolicyProposed(
        digest=policy.digest,
        pack=policy.pack,
        active=await repository.active(session),
        proposer_account=account,
        proposer_person=person,
    )
    await outbox.add(session, proposed, by=by, at=means.now)
    return policy.digest


async def ensure_apart(session: AsyncSession, policy: Policy, now: datetime) -> None:
    """Raises DutyConflict when somebody would hold two duties by the roles that he has now, or an application."""
    known = {role.id for role in policy.roles}
    held = []
    for roles, persons in await repository.held_together(session, now):
        kept = sorted(known.intersection(roles))
        conflicts = policy.conflicts_in(policy.scopes_of(kept))
        if conflicts:
            held.append({"roles": kept, "conflicts": [each.id for each in conflicts], "persons": persons})
    clients = [
        {"client": client, "conflicts": [each.id for each in conflicts]}
        for client, scopes in await repository.client_scopes(session)
        if (conflicts := policy.conflicts_in(scopes))
    ]
    if held or clients:
        raise DutyConflict("What is held now could not be held together any more.", held=held, clients=clients)


async def decide(session: AsyncSession, means: Means, digest: str, verdict: Verdict, comment: str, by: Subject) -> None:
    """Another person's decision, once. Raises PersonNeeded, NotFound, SamePerson, VersionDecided, DutyConflict.

    What is held is judged again, since roles may have been given meanwhile.
    """
    account, person = _person(by)
    version = await repository.version(session, digest, lock=True)
    if version is None:
        raise NotFound("There is no such version.")
    if version.proposer_person == person:
        raise SamePerson("Another person approves it.")
    if version.state != State.PROPOSED or version.proposer_person is None:
        raise VersionDecided(version.state)
    approves = verdict is Verdict.APPROVE
    if approves:
        await ensure_apart(session, await _kept(version.content), means.now)
    decision = {
        "digest": digest,
        "proposer_person": version.proposer_person,
        "account": account,
        "person": person,
        "verdict": verdict.value,
        "comment": means.texts.seal(comment),
        "at": means.now,
    }
    await repository.add_decision(session, decision)
    await repository.set_state(session, digest, State.APPROVED if approves else State.REJECTED)
    event = PolicyApproved if approves else PolicyRejected
    decided = event(
        digest=digest,
        pack=version.pack,
        active=await repository.active(session),
        proposer_person=version.proposer_person,
        decider_account=account,
        decider_person=person,
    )
    await outbox.add(session, decided, by=by, at=means.now)


async def note_deployed(session: AsyncSession, policy: Policy, text: str, now: datetime) -> bool:
    """What the parts started with is the active version; True when that is news.

    The first seeds the versions. Another one that nobody approved takes effect all the same, since the file is what
    counts, and is an alarm.
    """
    await repository.lock(session)
    before = await repository.active(session)
    if before == policy.digest:
        return False
    found = await repository.found(session, policy.digest)
    approved = found is not None and found.decision is not None and found.decision.verdict == Verdict.APPROVE
    if before is not None:
        await repository.set_state(session, before, State.SUPERSEDED)
    if found is None:
        await repository.add(session, _values(policy, text, now) | {"state": State.ACTIVE.value, "activated_at": now})
    else:
        await repository.set_state(session, policy.digest, State.ACTIVE, activated_at=now)
    activated = PolicyActivated(digest=policy.digest, pack=policy.pack, before=before, approved=approved)
    await outbox.add(session, activated, by=None, at=now)
    if before is not None and not approved:
        await outbox.add(session, PolicyUnapproved(digest=policy.digest, before=before), by=None, at=now)
    return True


async def show(session: AsyncSession, means: Means, digest: str, by: Subject) -> PolicyShown:
    """A version with its text. Raises NotFound."""
    found = await repository.found(session, digest)
    if found is None:
        raise NotFound("There is no such version.")
    return PolicyShown(
        **_summary(found, means, by).model_dump(), text=found.version.text, content=found.version.content
    )


async def listed(
    session: AsyncSession, means: Means, by: Subject, *, limit: int, before: UUID | None
) -> list[tuple[UUID, PolicySummary]]:
    """A page of versions by their key, the newest first; one more than the limit when there is a next page."""
    found = await repository.listed(session, limit=limit + 1, before=before)
    return [(each.version.id, _summary(each, means, by)) for each in found]


async def _kept(content: dict[str, Any]) -> Policy:
    """The policy as it was kept. Raises FaultyPack when it may be used no more: its words have changed since."""
    try:
        return await asyncio.to_thread(policy_from_content, content)
    except PolicyError as error:
        raise refused(error.faults) from error


def _person(by: Subject) -> tuple[UUID, UUID]:
    if by.account is None or by.person is None:
        raise PersonNeeded("An application without a person cannot do this.")
    return by.account, by.person


def _values(policy: Policy, text: str, now: datetime) -> dict[str, Any]:
    return {
        "digest": policy.digest,
        "id": new_id(),
        "pack": policy.pack,
        "text": text,
        "content": policy.content(),
        "proposed_at": now,
    }


def _summary(found: Found, means: Means, by: Subject) -> PolicySummary:
    version, decision = found.version, found.decision
    approved = version.state == State.APPROVED
    comment = None
    if decision is not None and not POLICY_SCOPES.isdisjoint(by.scopes):
        comment = means.texts.open(decision.comment)
    return PolicySummary(
        digest=version.digest,
        pack=version.pack,
        title=version.content["title"],
        state=State(version.state),
        takes_effect="next-start-with-this-file" if approved else None,
        proposer_account=version.proposer_account,
        proposer_person=version.proposer_person,
        proposed_at=version.proposed_at,
        activated_at=version.activated_at,
        decision=decision
        and Decision(
            verdict=Verdict(decision.verdict),
            account=decision.account,
            person=decision.person,
            at=decision.at,
            comment=comment,
        ),
    )
