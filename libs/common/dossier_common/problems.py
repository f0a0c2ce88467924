"""Problem details (RFC 9457): the categories fix the status, a leaf class names the problem.

Problem
├── Malformed 400
├── Unauthenticated 401
├── Forbidden 403            a refusal: recorded as an event before it is answered
│   ├── InsufficientScope
│   ├── OutsideZone          not from this network zone
│   ├── PersonNeeded         an application that acts for itself, where a duty is a person's
│   └── SamePerson           who holds another duty in the case
├── NotFound 404             also the answer for what the caller may not know of
│   └── Hidden               exists, but not for this caller; recorded like a refusal
├── RequestTimeout 408
├── Conflict 409
│   └── IdempotencyConflict
├── EventsPruned 410         a follower asks for events that its producer no longer has
├── Stale 412
├── TooLarge 413
├── UnsupportedMedia 415
├── Invalid 422              understood, but wrong: `errors` has a pointer for each fault
├── PreconditionMissing 428
├── RateLimited 429
├── HeadersTooLarge 431
└── Unavailable 503
    ├── AuditUnavailable     the record of the act cannot be made durable (invariant 1)
    └── UpstreamUnavailable
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict


class Words(NamedTuple):
    """A text in the two languages that people read here."""

    zh: str
    en: str


class Fault(BaseModel):
    """One thing that is wrong with what was sent, and where."""

    model_config = ConfigDict(frozen=True)

    pointer: str
    code: str
    detail: str


class ProblemDocument(BaseModel):
    """The body of every error answer (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    errors: list[Fault] | None = None


class Problem(Exception):
    """Whatever keeps a request from being answered as asked; rendered in one place, `dossier_common.app`."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    words: ClassVar[Words] = Words("内部错误", "Internal error")
    refusal: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail or self.slug)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = members
        self.recorded = False
        """Whether the refusal is an event already, so that it is not recorded twice."""

    def document(self, *, chinese: bool = False, instance: str | None = None) -> dict[str, Any]:
        """The problem document; members that are empty are left out."""
        document: dict[str, Any] = {
            "type": f"urn:dossier:problem:{self.slug}",
            "title": self.words.zh if chinese else self.words.en,
            "status": self.status,
        }
        if self.detail:
            document["detail"] = self.detail
        if instance:
            document["instance"] = instance
        if self.errors:
            document["errors"] = [fault.model_dump() for fault in self.errors]
        return document | self.members


class Malformed(Problem):
    """The request cannot be read: broken JSON, encoding, cursor, header."""

    status = 400
    slug = "invalid-request"
    words = Words("请求无法解析", "The request cannot be read")


class Unauthenticated(Problem):
    """No token, or none that holds."""

    status = 401
    slug = "unauthenticated"
    words = Words("未通过身份认证", "Not authenticated")

    def __init__(self, detail: str | None = None, *, error: str = "invalid_token", **members: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": f'Bearer error="{error}"'}, **members)


class Forbidden(Problem):
    """Known, but refused; every refusal of a known caller is an event (B3.4.2)."""

    status = 403
    slug = "forbidden"
    words = Words("无权进行此操作", "Refused")
    refusal = True


class InsufficientScope(Forbidden):
    """The token lacks the scope that this operation needs (RFC 6750)."""

    slug = "insufficient-scope"
    words = Words("权限范围不足", "The token lacks a scope")

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"This operation needs the scope {scope}.",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            scope=scope,
        )


class OutsideZone(Forbidden):
    """Use inside the named network zones only (D.4.6)."""

    slug = "outside-zone"
    words = Words("不在允许的网络区域", "Not from this network zone")


class PersonNeeded(Forbidden):
    """A duty is a person's: an application that acts for itself asks, decides, holds and disposes of nothing (A2.7)."""

    slug = "person-needed"
    words = Words("须由本人办理", "This needs a person")


class SamePerson(Forbidden):
    """Nobody holds two duties in one case, whatever roles and accounts he has (invariant 4)."""

    slug = "same-person"
    words = Words("同一人不得在同一事项中承担两项职责", "Nobody holds two duties in one case")


class NotFound(Problem):
    """Unknown."""

    status = 404
    slug = "not-found"
    words = Words("不存在", "Not found")


class Hidden(NotFound):
    """Exists, but the caller may not know of it: the answer is that of an unknown thing, the event is a refusal."""

    refusal = True


class MethodNotAllowed(Problem):
    """The path exists, the verb does not."""

    status = 405
    slug = "method-not-allowed"
    words = Words("不支持该方法", "Method not allowed")


class RequestTimeout(Problem):
    """The request did not arrive in time."""

    status = 408
    slug = "request-timeout"
    words = Words("请求接收超时", "The request did not arrive in time")


class Conflict(Problem):
    """The state of the thing does not allow it."""

    status = 409
    slug = "conflict"
    words = Words("与当前状态冲突", "Conflicts with the present state")


class IdempotencyConflict(Conflict):
    """The same Idempotency-Key came with another body."""

    slug = "idempotency-conflict"
    words = Words("幂等键已用于其他请求", "This Idempotency-Key was used for another request")


class EventsPruned(Problem):
    """Events after this cursor are gone from the outbox; `oldest` is the place of the first that there is."""

    status = 410
    slug = "events-pruned"
    words = Words("所请求的事件已清除", "These events are no longer here")


class Stale(Problem):
    """If-Match names another version than the present one."""

    status = 412
    slug = "stale-version"
    words = Words("版本已过期", "The version is stale")


class TooLarge(Problem):
    """Longer than the limit of this operation."""

    status = 413
    slug = "too-large"
    words = Words("请求过大", "The request is too large")


class UnsupportedMedia(Problem):
    """A Content-Type that this operation does not take."""

    status = 415
    slug = "unsupported-media-type"
    words = Words("不支持的内容类型", "Unsupported media type")


class Invalid(Problem):
    """Understood, but wrong."""

    status = 422
    slug = "invalid-request"
    words = Words("请求内容有误", "The request is not valid")


class PreconditionMissing(Problem):
    """A change without If-Match."""

    status = 428
    slug = "precondition-required"
    words = Words("缺少 If-Match", "If-Match is required")


class RateLimited(Problem):
    """More calls than allowed."""

    status = 429
    slug = "rate-limited"
    words = Words("请求过于频繁", "Too many requests")

    def __init__(self, retry_after: int, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class HeadersTooLarge(Problem):
    """More headers, or longer ones, than are read."""

    status = 431
    slug = "headers-too-large"
    words = Words("请求头过大", "The headers are too large")


class Unavailable(Problem):
    """Cannot be answered now; nothing was changed."""

    status = 503
    slug = "upstream-unavailable"
    words = Words("服务暂不可用", "Temporarily unavailable")

    def __init__(self, detail: str | None = None, *, retry_after: int = 2, **members: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)}, **members)


class UpstreamUnavailable(Unavailable):
    """A part that is needed for the answer does not answer."""


class AuditUnavailable(Unavailable):
    """The record of the act cannot be made durable, so the act does not happen (invariant 1)."""

    slug = "audit-unavailable"
    words = Words("审计不可用，操作未执行", "Not done, because it cannot be recorded")
