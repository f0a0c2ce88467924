"""Scopes of the gateway's own endpoints, as aliases."""

from typing import Annotated, Any, Final

from fastapi import Depends, Request

from dossier_common.auth import Caller as Anyone
from dossier_common.auth import identify, scope
from dossier_common.identity import Subject
from dossier_common.problems import InsufficientScope
from dossier_common.scopes import Scope

AccountManager = Annotated[Subject, scope(Scope.ACCOUNTS_MANAGE)]
RoleAssigner = Annotated[Subject, scope(Scope.ROLES_ASSIGN)]
ClientManager = Annotated[Subject, scope(Scope.CLIENTS_MANAGE)]
PolicyProposer = Annotated[Subject, scope(Scope.POLICY_PROPOSE)]
PolicyApprover = Annotated[Subject, scope(Scope.POLICY_APPROVE)]

OFFICERS: Final = (Scope.ACCOUNTS_MANAGE, Scope.ROLES_ASSIGN)


async def _officer(request: Request) -> Subject:
    subject = await identify(request)
    if subject.scopes.isdisjoint(OFFICERS):
        raise InsufficientScope(OFFICERS[0])
    return subject


Officer = Annotated[Subject, Depends(_officer)]
"""Who keeps accounts, or who gives them roles: both have to see them. Its endpoint declares EITHER."""

EITHER: Final[dict[str, Any]] = {"security": [{"oauth2": [str(each)]} for each in OFFICERS]}
"""`openapi_extra` of an endpoint for officers."""

__all__ = [
    "EITHER",
    "AccountManager",
    "Anyone",
    "ClientManager",
    "Officer",
    "PolicyApprover",
    "PolicyProposer",
    "RoleAssigner",
]
