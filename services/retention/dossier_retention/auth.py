"""Scopes of the retention service, as dependencies."""

from typing import Annotated

from dossier_common.auth import scope
from dossier_common.identity import Subject
from dossier_common.scopes import Scope

Reader = Annotated[Subject, scope(Scope.RETENTION_READ)]
HoldPlacer = Annotated[Subject, scope(Scope.HOLDS_PLACE)]
HoldReleaser = Annotated[Subject, scope(Scope.HOLDS_RELEASE)]
Proposer = Annotated[Subject, scope(Scope.DISPOSALS_PROPOSE)]
Executor = Annotated[Subject, scope(Scope.DISPOSALS_EXECUTE)]
Witness = Annotated[Subject, scope(Scope.DISPOSALS_WITNESS)]
