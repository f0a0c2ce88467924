"""The words that a pack may use: closed sets that the mechanism understands, and the shape of its own names."""

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints


class FieldKind(StrEnum):
    """Kind of information that a field holds (D.3.1)."""

    IDENTITY = "identity"
    BUSINESS = "business"
    SENSITIVE = "sensitive"
    DERIVED = "derived"


class Mask(StrEnum):
    """How a value is shown to those who may not see it open; `hidden` shows that there is one, no more."""

    NONE = "none"
    NAME = "name"
    PHONE = "phone"
    IDENTIFIER = "identifier"
    ADDRESS = "address"
    EMAIL = "email"
    ACCOUNT = "account"
    HIDDEN = "hidden"


class Validator(StrEnum):
    """How a value is normalised and checked on entry (A7.6 for identifiers)."""

    TEXT = "text"
    NAME = "name"
    SEX = "sex"
    DATE = "date"
    IDENTIFIER_TYPE = "identifier_type"
    IDENTIFIER = "identifier"
    PHONE = "phone"
    EMAIL = "email"
    POSTCODE = "postcode"
    BANK_CARD = "bank_card"
    NUMBER = "number"


class Action(StrEnum):
    """What someone can ask to do, or to have done, with records."""

    VIEW = "view"
    BORROW = "borrow"
    COPY = "copy"
    EXTRACT = "extract"
    PRINT = "print"
    EXPORT = "export"
    SHARE = "share"
    CARRY_OUT = "carry_out"
    RECLASSIFY = "reclassify"
    EXTEND_SECRECY = "extend_secrecy"
    CORRECT = "correct"
    REPORT = "report"
    RELEASE = "release"
    CIRCULATE = "circulate"
    MAINTAIN = "maintain"
    DESTROY = "destroy"


class Requester(StrEnum):
    """Whether the requester is of the company."""

    INSIDER = "insider"
    OUTSIDER = "outsider"


class Recipient(StrEnum):
    """Who receives what is shared."""

    DEPARTMENT = "department"
    PARTNER = "partner"
    AUTHORITY = "authority"
    SUBJECT = "subject"
    PUBLIC = "public"


class RequestPart(StrEnum):
    """What a request can be made to contain; the credentials stand in the requester's profile."""

    OBJECT = "object"
    PURPOSE = "purpose"
    REASON = "reason"
    REQUESTER_PROFILE = "requester_profile"
    FIELDS = "fields"
    COPIES = "copies"
    NOT_BEFORE = "not_before"
    UNTIL = "until"
    RECIPIENT = "recipient"
    SCOPE = "scope"
    METHOD = "method"
    INTRODUCTION_LETTER = "introduction_letter"
    WORK_CARD = "work_card"
    IDENTITY_DOCUMENT = "identity_document"
    LEGAL_DOCUMENT = "legal_document"


class UnitExpression(StrEnum):
    """The unit whose office decides; an office that the unit lacks is looked for up the tree."""

    REQUESTER_UNIT = "requester.unit"
    RECORD_UNIT = "record.unit"
    COMPANY = "company"
    GROUP = "group"


class OnTimeout(StrEnum):
    """What becomes of a stage that is not decided in time; never an approval."""

    ESCALATE = "escalate"
    EXPIRE = "expire"


class Doing(StrEnum):
    """What a stage does where it does not decide."""

    EXECUTE = "execute"
    REPORT = "report"
    ARCHIVE = "archive"


class Basis(StrEnum):
    """What makes a use lawful (PIPL 13)."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LAW = "law"


class Disclosure(StrEnum):
    """How much of a record's fields is shown."""

    NOTHING = "nothing"
    MASKED = "masked"
    OPEN = "open"


class Relation(StrEnum):
    """How a person stands to a record."""

    CUSTODIAN = "custodian"
    NAMED = "named"
    UNIT = "unit"


class Representation(StrEnum):
    """What may be made of content that is shown."""

    VIEW = "view"
    PRINT = "print"
    COPY = "copy"
    FORWARD = "forward"


class Trigger(StrEnum):
    """The event at which a retention term starts."""

    OPENED = "opened"
    RELATIONSHIP_ENDED = "relationship_ended"
    CONTRACT_ENDED = "contract_ended"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    PURPOSE_REACHED = "purpose_reached"


class DisposalAction(StrEnum):
    """What happens to a record at the end of its term (B6.11)."""

    DESTROY = "destroy"
    ANONYMISE = "anonymise"


class DisposalMethod(StrEnum):
    """How a carrier is made unreadable; none of them leaves waste paper that could be sold (A8.25)."""

    CRYPTO_SHRED = "crypto_shred"
    OVERWRITING = "overwriting"
    SHREDDING = "shredding"
    PULPING = "pulping"
    BURNING = "burning"
    DEGAUSSING = "degaussing"
    PHYSICAL_DESTRUCTION = "physical_destruction"


class Suspicion(StrEnum):
    """What makes a record suspicious (A7.7, A7.11)."""

    SHARED_VALUE = "shared_value"
    INSIDER_VALUE = "insider_value"
    PAYER_DIFFERS = "payer_differs"


class Detection(StrEnum):
    """What the audit service watches for (B3.4.2, B2.8.1)."""

    BULK_READING = "bulk_reading"
    ODD_HOURS = "odd_hours"
    MANY_REFUSALS = "many_refusals"
    BEFORE_LEAVING = "before_leaving"
    SHARED_DATA = "shared_data"


class DutyScope(StrEnum):
    """What a periodic duty is due for, each on its own."""

    COMPANY = "company"
    UNIT = "unit"
    PROJECT = "project"


class Operation(StrEnum):
    """A maintenance operation of an administrator, for which a policy may want an authorisation."""

    ACCOUNTS_CREATE = "accounts.create"
    ACCOUNTS_DISABLE = "accounts.disable"
    ACCOUNTS_ENABLE = "accounts.enable"
    ACCOUNTS_OFFBOARD = "accounts.offboard"
    ENROLMENTS_ISSUE = "enrolments.issue"
    SESSIONS_END = "sessions.end"
    SECOND_FACTOR_RESET = "second_factor.reset"
    CLIENTS_REGISTER = "clients.register"
    CLIENTS_CHANGE = "clients.change"
    CLIENTS_ENABLE = "clients.enable"
    UNITS_CHANGE = "units.change"


ON_ACCOUNTS: Final = frozenset(
    {
        Operation.ACCOUNTS_DISABLE,
        Operation.ACCOUNTS_ENABLE,
        Operation.ACCOUNTS_OFFBOARD,
        Operation.ENROLMENTS_ISSUE,
        Operation.SESSIONS_END,
        Operation.SECOND_FACTOR_RESET,
    }
)
"""What is done to an account that is there, and so to a person."""

WAYS_IN: Final = (Operation.ENROLMENTS_ISSUE, Operation.SECOND_FACTOR_RESET)
"""What together lets somebody into the account of another."""


class Concerning(StrEnum):
    """Whose accounts a maintenance rule is about: everybody's, or those of persons who hold an office."""

    ANYONE = "anyone"
    OFFICERS = "officers"


Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*([-_][a-z0-9]+)*$", max_length=64)]
"""The name of an item: lower case, words joined by ``-`` or ``_``."""

ScopePattern = Annotated[str, StringConstraints(pattern=r"^[a-z]+:([a-z]+|\*)$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


def _as_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Ids = Annotated[tuple[Id, ...], BeforeValidator(_as_many, json_schema_input_type=Id | list[Id])]
"""One id or a list of them."""
Actions = Annotated[tuple[Action, ...], BeforeValidator(_as_many, json_schema_input_type=Action | list[Action])]
Kinds = Annotated[tuple[FieldKind, ...], BeforeValidator(_as_many, json_schema_input_type=FieldKind | list[FieldKind])]
Recipients = Annotated[
    tuple[Recipient, ...], BeforeValidator(_as_many, json_schema_input_type=Recipient | list[Recipient])
]


class Item(BaseModel):
    """A frozen part of a policy; a key that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Title(Item):
    """What people read, in both languages of the console."""

    zh: Text
    en: Text
