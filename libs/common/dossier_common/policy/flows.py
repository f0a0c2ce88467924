"""The way a request goes: the cases that a flow is for, its stages, and the grant at its end; and the way round it."""

from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from pydantic import Field as Constrained
from pydantic import PositiveInt, field_validator, model_validator

from dossier_common.policy.period import Period
from dossier_common.policy.vocabulary import (
    Action,
    Actions,
    Doing,
    Id,
    Ids,
    Item,
    OnTimeout,
    Recipient,
    Recipients,
    Requester,
    RequestPart,
    Title,
    UnitExpression,
)


class FlowWhen(Item):
    """The cases that a flow is for; what is left out holds for all."""

    action: Actions = Constrained(min_length=1)
    level: Ids | None = None
    requester: Requester | None = None
    recipient: Recipients | None = None

    @property
    def specificity(self) -> int:
        """How many conditions stand beside the action."""
        return sum(condition is not None for condition in (self.level, self.requester, self.recipient))

    def matches(self, action: Action, level: str, requester: Requester, recipient: Recipient | None) -> bool:
        """Whether the case is one of these; a flow for named recipients is for no case without one."""
        return (
            action in self.action
            and (self.level is None or level in self.level)
            and (self.requester is None or requester is self.requester)
            and (self.recipient is None or recipient in self.recipient)
        )

    def overlaps(self, other: Self) -> bool:
        """Whether some case matches both."""
        return (
            not frozenset(self.action).isdisjoint(other.action)
            and (self.level is None or other.level is None or not frozenset(self.level).isdisjoint(other.level))
            and (self.requester is None or other.requester in {None, self.requester})
            and (
                self.recipient is None
                or other.recipient is None
                or not frozenset(self.recipient).isdisjoint(other.recipient)
            )
        )


class RequestRule(Item):
    """What a request must contain: all of `required`, and at least one of `one_of` where there are any."""

    required: tuple[RequestPart, ...] = ()
    one_of: tuple[RequestPart, ...] = ()


class Approver(Item):
    """The holders of a role in a unit."""

    role: Id
    of: UnitExpression


class Overdue(Item):
    """Whom to tell, and when, after a thing lent was due back."""

    after: Period
    escalate_to: Id


class GrantTerms(Item):
    """The limits and conditions of the grant that a flow ends in.

    `single_use` means one use whatever was asked for. Without `term_max` the request has to say an end.
    """

    term_max: Period | None = None
    uses_max: PositiveInt | None = None
    single_use: bool = False
    view_only: bool = False
    watermark: bool = True
    stamp: bool = False
    receipt: bool = False
    encrypted: bool = False
    return_required: bool = False
    zones: tuple[Id, ...] = ()
    overdue: Overdue | None = None

    @property
    def uses_limit(self) -> int | None:
        """How often the grant can be used at most, None for no limit."""
        return 1 if self.single_use else self.uses_max


class RecipientTerms(Item):
    """What the recipient must have before anything is handed over (E.共享流程, B3.5)."""

    agreement: Literal["required", "not_required"] = "not_required"
    assessment: Literal["required", "not_required"] = "not_required"

    @property
    def needed(self) -> tuple[str, ...]:
        """The qualifications that the recipient, a partner then, has to have."""
        return tuple(name for name in ("agreement", "assessment") if getattr(self, name) == "required")


class Stage(Item):
    """One step of a flow: who decides or does it, how many of them, and within which time.

    Approvers are `role` with `of`, or `any_of`. `return_to` names the earlier stage at which a case that is sent
    back opens its new round.
    """

    name: Id
    title: Title | None = None
    role: Id | None = None
    of: UnitExpression | None = None
    any_of: tuple[Approver, ...] = ()
    quorum: Literal["all", "any"] | PositiveInt = "any"
    time_limit: Period | None = None
    on_timeout: OnTimeout = OnTimeout.EXPIRE
    escalate_to: Approver | None = None
    doing: Doing | None = None
    return_to: Id | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        single = self.role is not None and self.of is not None
        if (self.role is None) != (self.of is None) or single == bool(self.any_of):
            raise ValueError("a stage has either role and of, or any_of")
        if self.on_timeout is OnTimeout.ESCALATE and (self.time_limit is None or self.escalate_to is None):
            raise ValueError("a stage that escalates has time_limit and escalate_to")
        return self

    @property
    def approvers(self) -> tuple[Approver, ...]:
        """The offices whose holders may decide; one of them or several."""
        if self.role is not None and self.of is not None:
            return (Approver(role=self.role, of=self.of),)
        return self.any_of

    def needed(self, candidates: int) -> int:
        """How many distinct persons out of the candidates must approve, always at least one."""
        if self.quorum == "all":
            return max(candidates, 1)
        return 1 if self.quorum == "any" else self.quorum


class Flow(Item):
    """The way a request goes: its contents, its stages in order, and the grant at the end."""

    id: Id
    title: Title | None = None
    when: FlowWhen
    request: RequestRule = RequestRule()
    recipient: RecipientTerms = RecipientTerms()
    grant: GrantTerms = GrantTerms()
    stages: tuple[Stage, ...] = Constrained(min_length=1)


_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_LONGEST_EMERGENCY = timedelta(days=31)


class EmergencyRule(Item):
    """Access at once, by somebody who is qualified and cleared: it stands for need to know and approval, no more.

    `term` and `uses` are limits that nobody extends. `tell` are the offices whose holders are told and review it within
    `review_within`. A pack without this section has no emergency access.
    """

    levels: Ids = Constrained(min_length=1)
    actions: tuple[Literal[Action.VIEW], ...] = Constrained(default=(Action.VIEW,), min_length=1)
    term: Period
    uses: PositiveInt
    tell: tuple[Approver, ...] = Constrained(min_length=1)
    review_within: Period

    @field_validator("term", "review_within")
    @classmethod
    def _lasts(cls, value: Period) -> Period:
        if value.is_zero or value.after(_SOME_DAY) > _SOME_DAY + _LONGEST_EMERGENCY:
            raise ValueError(f"lasts longer than nothing, and {_LONGEST_EMERGENCY.days} days at most")
        return value
