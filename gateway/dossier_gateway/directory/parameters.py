"""Parameters that several endpoints of the directory take."""

from typing import Annotated
from uuid import UUID

from fastapi import Header, Query

ByAuthorisation = Annotated[
    UUID | None,
    Query(alias="authorisation", description="An approved authorisation, where the policy wants one; of use once"),
]
IfMatch = Annotated[str | None, Header(description="The ETag of the version that the change was made on")]
