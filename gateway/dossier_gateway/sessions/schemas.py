"""Shapes of sessions and of passwords on the wire."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dossier_gateway.passwords import LONGEST

Password = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


class Wire(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Session(Wire):
    """A browser that is signed in."""

    id: UUID
    current: bool = Field(description="Whether the token of this call came from it")
    signed_in_at: datetime
    last_seen_at: datetime = Field(description="To the minute: when a code or a token was asked for")
    idle_ends_at: datetime = Field(description="When it ends if nothing is asked for with it")
    expires_at: datetime
    zone: str = Field(description="Where it was opened")
    amr: list[str] = Field(description="How its person signed in (RFC 8176): pwd, otp")
    clients: list[str] = Field(description="Applications that have tokens from it")


class Sessions(Wire):
    """The live sessions of an account, the oldest first."""

    items: list[Session]


class NewPassword(Wire):
    """The present password, and the one that takes its place."""

    password: Password
    new_password: Password
