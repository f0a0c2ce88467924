"""Who may call what: scopes as aliases, each used by the endpoints that need it."""

from typing import Annotated

from dossier_common.auth import scope
from dossier_common.identity import Subject
from dossier_common.scopes import Scope

Registrar = Annotated[Subject, scope(Scope.RECORDS_REGISTER)]
Cataloguer = Annotated[Subject, scope(Scope.RECORDS_CATALOGUE)]
Reader = Annotated[Subject, scope(Scope.RECORDS_READ)]
Editor = Annotated[Subject, scope(Scope.RECORDS_UPDATE)]
Importer = Annotated[Subject, scope(Scope.RECORDS_IMPORT)]
Copyist = Annotated[Subject, scope(Scope.RECORDS_COPY)]
Planner = Annotated[Subject, scope(Scope.PLANS_MANAGE)]
Describer = Annotated[Subject, scope(Scope.RECORDS_DESCRIBE)]
Supervisor = Annotated[Subject, scope(Scope.RECORDS_CLASSIFY)]
