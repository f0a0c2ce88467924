"""Policy versions over HTTP."""

from fastapi import Request, Response

from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.reach import ALL_OBJECTS
from dossier_gateway.auth import Anyone, PolicyApprover, PolicyProposer
from dossier_gateway.policies import service
from dossier_gateway.policies.schemas import Digest, NewApproval, NewPolicy, Policies, PolicyShown
from dossier_gateway.policies.service import Means

router = make_router(tags=["policies"])


def _means(request: Request) -> Means:
    state = request.app.state
    return Means(state.settings.common.policy.parent, state.policy_texts, state.clock.now())


@router.get("/v1/policies", openapi_extra=ALL_OBJECTS)
async def list_policies(by: Anyone, session: Read, page: Paged, request: Request) -> Policies:
    """All versions of the policy, with who proposed and who decided them; the newest first."""
    found = await service.listed(session, _means(request), by, limit=page.limit, before=page.after_id())
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1][0]))
    return Policies(items=[each for _, each in found[: page.limit]])


@router.get("/v1/policies/{digest}", openapi_extra=ALL_OBJECTS)
async def show_policy(digest: Digest, by: Anyone, session: Read, request: Request) -> PolicyShown:
    """The text of a version, and its merged content: what a decision was made under, found by its digest."""
    return await service.show(session, _means(request), digest, by)


@router.post("/v1/policies", status_code=201, openapi_extra=ALL_OBJECTS)
async def propose_policy(
    body: NewPolicy, by: PolicyProposer, session: Write, request: Request, response: Response
) -> PolicyShown:
    """A version for another person to approve; refused with everything that is wrong with it.

    409 `duty-conflict` when one person could hold two duties by it, or holds them now by the roles that he has.
    """
    means = _means(request)
    digest = await service.propose(session, means, body.text, by)
    response.headers["Location"] = f"/v1/policies/{digest}"
    return await service.show(session, means, digest, by)


@router.post("/v1/policies/{digest}/approval", openapi_extra=ALL_OBJECTS)
async def decide_policy(
    digest: Digest, body: NewApproval, by: PolicyApprover, session: Write, request: Request
) -> PolicyShown:
    """Another person approves or rejects a version, once; an approved one takes effect when the parts start with it."""
    means = _means(request)
    await service.decide(session, means, digest, body.verdict, body.comment, by)
    return await service.show(session, means, digest, by)
