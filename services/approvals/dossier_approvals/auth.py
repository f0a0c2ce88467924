"""Scopes of the approvals service, as aliases."""

from typing import Annotated, Any, Final

from fastapi import Depends, Request

from dossier_common.auth import identify, scope
from dossier_common.identity import Subject
from dossier_common.problems import InsufficientScope
from dossier_common.scopes import Scope

Requester = Annotated[Subject, scope(Scope.REQUESTS_CREATE)]
Reader = Annotated[Subject, scope(Scope.REQUESTS_READ)]
Decider = Annotated[Subject, scope(Scope.REQUESTS_DECIDE)]
GrantReader = Annotated[Subject, scope(Scope.GRANTS_READ)]
EmergencyUser = Annotated[Subject, scope(Scope.EMERGENCY_USE)]
EmergencyReviewer = Annotated[Subject, scope(Scope.EMERGENCY_REVIEW)]
Revoker = Annotated[Subject, scope(Scope.GRANTS_REVOKE)]
Resolver = Annotated[Subject, scope(Scope.GRANTS_RESOLVE)]

EMERGENCY: Final = (Scope.EMERGENCY_USE, Scope.EMERGENCY_REVIEW)


async def _emergency_party(request: Request) -> Subject:
    subject = await identify(request)
    if subject.scopes.isdisjoint(EMERGENCY):
        raise InsufficientScope(EMERGENCY[0])
    return subject


EmergencyParty = Annotated[Subject, Depends(_emergency_party)]
"""Who may use emergency access, or who reviews it. Its endpoint declares EITHER."""

EITHER: Final[dict[str, Any]] = {"security": [{"oauth2": [str(each)]} for each in EMERGENCY]}
"""`openapi_extra` of an endpoint for both."""
