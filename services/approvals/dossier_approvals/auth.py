"""Scopes of the approvals service, as aliases."""

from typing import Annotated

from dossier_common.auth import scope
from dossier_common.identity import Subject
from dossier_common.scopes import Scope

Requester = Annotated[Subject, scope(Scope.REQUESTS_CREATE)]
Reader = Annotated[Subject, scope(Scope.REQUESTS_READ)]
Decider = Annotated[Subject, scope(Scope.REQUESTS_DECIDE)]
GrantReader = Annotated[Subject, scope(Scope.GRANTS_READ)]
Revoker = Annotated[Subject, scope(Scope.GRANTS_REVOKE)]
Resolver = Annotated[Subject, scope(Scope.GRANTS_RESOLVE)]
