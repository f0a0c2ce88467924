"""Shapes of policy versions on the wire."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path
from pydantic import Field, StringConstraints

from dossier_gateway.directory.schemas import Title, Wire

TEXT_MAX = 256 * 1024
Digest = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$")]


class State(StrEnum):
    """Where a version stands; one is active."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    ACTIVE = "active"
    SUPERSEDED = "superseded"


class Verdict(StrEnum):
    """What the other person says."""

    APPROVE = "approve"
    REJECT = "reject"


class NewPolicy(Wire):
    """A pack as it would stand in its file (YAML); it may extend the packs of the deployment."""

    text: Annotated[str, Field(min_length=1, max_length=TEXT_MAX)]


class NewApproval(Wire):
    """What the other person says, and why."""

    verdict: Verdict
    comment: Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class Decision(Wire):
    """The one decision. `comment` is for those who propose and approve policies."""

    verdict: Verdict
    account: UUID
    person: UUID
    at: datetime
    comment: str | None


class PolicySummary(Wire):
    """A version of the policy. Without a proposer it came with the deployment's file.

    An approved one takes effect at the next start of all parts with its text as their file.
    """

    digest: str
    pack: str
    title: Title
    state: State
    takes_effect: Literal["next-start-with-this-file"] | None
    proposer_account: UUID | None
    proposer_person: UUID | None
    proposed_at: datetime
    activated_at: datetime | None
    decision: Decision | None


class Policies(Wire):
    """A page of versions, the newest first."""

    items: list[PolicySummary]


class PolicyShown(PolicySummary):
    """A version with its text, and with its merged content, of which the digest is taken (RFC 8785, SHA-256)."""

    text: str
    content: dict[str, Any]
