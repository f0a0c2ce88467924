"""Scopes of the audit service, as dependencies."""

from typing import Annotated

from dossier_common.auth import scope
from dossier_common.identity import Subject
from dossier_common.scopes import Scope

Auditor = Annotated[Subject, scope(Scope.AUDIT_READ)]
Verifier = Annotated[Subject, scope(Scope.AUDIT_VERIFY)]
Producer = Annotated[Subject, scope(Scope.EVENTS_PULL)]
