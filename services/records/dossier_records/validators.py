"""Normal forms and checks of field values, by the policy's validator names (A7.6); pure.

`normalise` never raises and is idempotent, so that what is stored, what is compared and what the blind index is made
of are one and the same. What it cannot read it leaves as it is, for `value_faults` to name.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import lru_cache

from stdnum import luhn, numdb
from stdnum.cn import ric, uscc

from dossier_common.policy import Field, Form
from dossier_common.policy.vocabulary import Validator
from dossier_records.faults import Fault, FaultCode

SEXES = {
    **dict.fromkeys(("男", "男性", "先生", "m", "male", "man"), "male"),
    **dict.fromkeys(("女", "女性", "女士", "f", "female", "woman"), "female"),
}
RESIDENT_ID, CREDIT_CODE, PASSPORT = "resident_id", "credit_code", "passport"
IDENTIFIER_TYPES = {
    **dict.fromkeys(
        ("居民身份证", "身份证", "二代身份证", "中华人民共和国居民身份证", "resident id", "resident_id", "id card"),
        RESIDENT_ID,
    ),
    **dict.fromkeys(
        (
            "统一社会信用代码",
            "信用代码",
            "营业执照",
            "credit code",
            "credit_code",
            "uscc",
            "unified social credit code",
        ),
        CREDIT_CODE,
    ),
    **dict.fromkeys(("护照", "passport"), PASSPORT),
    **dict.fromkeys(
        ("港澳居民来往内地通行证", "回乡证", "hong kong and macau permit", "hong_kong_macau_permit"),
        "hong_kong_macau_permit",
    ),
    **dict.fromkeys(("台湾居民来往大陆通行证", "台胞证", "taiwan permit", "taiwan_permit"), "taiwan_permit"),
    **dict.fromkeys(
        ("外国人永久居留身份证", "外国人永久居留证", "permanent residence card", "permanent_residence"),
        "permanent_residence",
    ),
    **dict.fromkeys(("军官证", "军人证", "士兵证", "military id", "military_id"), "military_id"),
}
EARLIEST, LATEST = date(1850, 1, 1), date(2300, 12, 31)
MAX_NORMALISED = 20_000

_EDGES = " \t\r\n\u00a0\u3000"
_SPACES = re.compile(r"[ \t\r\n\u00a0\u3000]+")
_DOTS = re.compile("[•‧・･᛫⋅∙]")  # the dot inside a foreign or minority name, as keyboards write it
_SEPARATORS = re.compile(r"[\s\-\u2010-\u2015\u2212]+")
_PHONE_SEPARATORS = re.compile(r"[\s\-().\u2010-\u2015\u2212]+")
_FORMULA = re.compile(r"=|[+\-@].|[\t\r]", re.DOTALL)
# controls but line feed; surrogates, zero-width and directional marks, line separators, byte order mark, non-characters
_CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef"
    "\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
_DATE = re.compile(
    r"(\d{4})(?:-(\d{1,2})-(\d{1,2})|/(\d{1,2})/(\d{1,2})|\.(\d{1,2})\.(\d{1,2})|年(\d{1,2})月(\d{1,2})[日号]?|(\d\d)(\d\d))"
    r"(?:[ T]00:00(?::00(?:\.0+)?)?)?",
    re.ASCII,
)
_MOBILE = re.compile(r"(?:\+|00)?86(?=1[3-9][0-9]{9}\Z)")
_PHONE = re.compile(
    r"1[3-9][0-9]{9}|0[1-9][0-9]{8,10}(?:x[0-9]{1,6})?|[2-9][0-9]{6,7}|[48]00[0-9]{7}|95[0-9]{3,6}|\+(?!86)[1-9][0-9]{6,14}"
)
_EXTENSION = re.compile(r"(?:转|ext|#|x)")
_EMAIL = re.compile(
    r"[a-z0-9_][a-z0-9_.+%'-]{0,63}@(?=.{4,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}"
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,6})?")
_CREDIT_CODE = re.compile(r"[0-9A-HJ-NPQRTUWXY]{2}[0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}")
_OTHER_IDENTIFIERS = {
    PASSPORT: re.compile(r"[A-Z0-9]{5,12}"),
    "hong_kong_macau_permit": re.compile(r"[HM][0-9]{8}(?:[0-9]{2})?"),
    "taiwan_permit": re.compile(r"[0-9]{8}(?:[0-9]{2})?"),
    "permanent_residence": re.compile(r"[A-Z]{3}[0-9]{12}|9[0-9]{17}"),
    "military_id": re.compile(r"[\u4e00-\u9fff]{0,4}字?第?[A-Z0-9]{5,12}号?"),
}
_DIGITS = re.compile(r"[0-9]{6,19}")
_ANY_IDENTIFIER = re.compile(r"[A-Z0-9\u4e00-\u9fff]{5,32}")


# ---- normal forms


def _wide(value: str) -> str:
    """Compatibility form (full-width digits and letters become plain ones), edges trimmed."""
    return unicodedata.normalize("NFKC", value).strip(_EDGES)


def _text(value: str) -> str:
    lines = unicodedata.normalize("NFC", value).replace("\r\n", "\n").replace("\r", "\n")
    return lines.strip(_EDGES)


def _name(value: str) -> str:
    return unicodedata.normalize("NFKC", _SPACES.sub(" ", _DOTS.sub("·", _wide(value)))).strip(_EDGES)


def normal_date(value: str) -> str:
    """ISO 8601 for 1990-1-5, 1990/1/5, 1990.1.5, 1990年1月5日 and 19900105, a midnight after it dropped."""
    compact = _wide(value)
    found = _DATE.fullmatch(compact)
    if found is None:
        return compact
    year, month, day = (int(part) for part in found.groups() if part is not None)
    return f"{year:04d}-{month:02d}-{day:02d}"


def _without_separators(shape: re.Pattern[str]) -> Callable[[str], str]:
    """Upper case and without spaces and hyphens, if that is then of the shape."""

    def normal(value: str) -> str:
        compact = _wide(value)
        plain = _SEPARATORS.sub("", compact).upper()
        return plain if shape.fullmatch(plain) else compact

    return normal


def _phone(value: str) -> str:
    compact = _wide(value)
    plain = _MOBILE.sub("", _EXTENSION.sub("x", _PHONE_SEPARATORS.sub("", compact).lower()))
    return plain if _PHONE.fullmatch(plain) else compact


def _email(value: str) -> str:
    compact = _wide(value)
    return compact.lower() if compact.isascii() else compact


def _number(value: str) -> str:
    compact = _wide(value)
    plain = compact.replace(",", "").replace(" ", "").removeprefix("\u00a5")
    return plain if _NUMBER.fullmatch(plain) else compact


def one_of(names: Mapping[str, str]) -> Callable[[str], str]:
    """A normal form that gives what `names` says for a spelling, whatever its case and width."""

    def normal(value: str) -> str:
        compact = _SPACES.sub(" ", _wide(value))
        return names.get(compact.casefold(), compact)

    return normal


_NORMAL: dict[Validator, Callable[[str], str]] = {
    Validator.TEXT: _text,
    Validator.NAME: _name,
    Validator.SEX: one_of(SEXES),
    Validator.DATE: normal_date,
    Validator.IDENTIFIER_TYPE: one_of(IDENTIFIER_TYPES),
    Validator.IDENTIFIER: _without_separators(_ANY_IDENTIFIER),
    Validator.PHONE: _phone,
    Validator.EMAIL: _email,
    Validator.POSTCODE: _without_separators(_DIGITS),
    Validator.BANK_CARD: _without_separators(_DIGITS),
    Validator.NUMBER: _number,
}


def normalise(field: Field, value: str) -> str:
    """The one spelling under which the value is stored, compared and indexed; empty for nothing but blanks.

    Never raises. A value that is far too long comes back untouched, since it is refused anyhow.
    """
    return value if len(value) > MAX_NORMALISED else _NORMAL[field.validator](value)


def as_date(value: str) -> date | None:
    """The date of a normalised value, None where there is none."""
    try:
        return date.fromisoformat(value) if len(value) == len("2000-01-01") else None
    except ValueError:
        return None


# ---- checks of one value, in its normal form


@lru_cache(maxsize=8192)
def _region_known(code: str) -> bool:
    """Whether the six digits have ever been a county (GB/T 2260).

    The year of birth is not compared: the number is given when a person is registered, which may be decades later.
    """
    return any("county" in properties for _, properties in numdb.get("cn/loc").info(code))


def _resident_id(value: str) -> FaultCode | None:
    if re.fullmatch(r"[0-9]{17}[0-9X]", value) is None:
        return FaultCode.IDENTIFIER_FORMAT
    if value[-1] != ric.calc_check_digit(value):
        return FaultCode.IDENTIFIER_CHECK_DIGIT
    if not _region_known(value[:6]):
        return FaultCode.IDENTIFIER_REGION
    born = as_date(f"{value[6:10]}-{value[10:12]}-{value[12:14]}")
    return FaultCode.IDENTIFIER_DATE if born is None or born < EARLIEST else None


def _credit_code(value: str) -> FaultCode | None:
    if _CREDIT_CODE.fullmatch(value) is None:
        return FaultCode.IDENTIFIER_FORMAT
    return None if value[-1] == uscc.calc_check_digit(value[:17]) else FaultCode.CREDIT_CODE_CHECK_DIGIT


def identifier_fault(identifier_type: str, value: str) -> FaultCode | None:
    """What is wrong with an identifier of this type (GB 11643-1999, GB 32100-2015); an unknown type is not judged."""
    if identifier_type == RESIDENT_ID:
        return _resident_id(value)
    if identifier_type == CREDIT_CODE:
        return _credit_code(value)
    shape = _OTHER_IDENTIFIERS.get(identifier_type, _ANY_IDENTIFIER)
    return None if shape.fullmatch(value) else FaultCode.IDENTIFIER_FORMAT


def date_fault(value: str) -> FaultCode | None:
    """What is wrong with a date in its normal form."""
    found = as_date(value)
    if found is None:
        return FaultCode.DATE_IMPOSSIBLE
    return None if EARLIEST <= found <= LATEST else FaultCode.DATE_OUT_OF_RANGE


def _card_fault(value: str) -> FaultCode | None:
    if re.fullmatch(r"[0-9]{12,19}", value) is None:
        return FaultCode.CARD_FORMAT
    return None if luhn.is_valid(value) else FaultCode.CARD_CHECK_DIGIT


def _matches(shape: re.Pattern[str], code: FaultCode) -> Callable[[str], FaultCode | None]:
    return lambda value: None if shape.fullmatch(value) else code


_CHECKS: dict[Validator, Callable[[str], FaultCode | None]] = {
    Validator.TEXT: lambda _: None,
    Validator.NAME: lambda value: None if any(map(str.isalpha, value)) else FaultCode.NAME_FORMAT,
    Validator.SEX: lambda value: None if value in {"male", "female"} else FaultCode.SEX_UNKNOWN,
    Validator.DATE: date_fault,
    Validator.IDENTIFIER_TYPE: lambda value: (
        None if value in IDENTIFIER_TYPES.values() else FaultCode.IDENTIFIER_TYPE_UNKNOWN
    ),
    Validator.IDENTIFIER: lambda _: None,  # judged by its type, across fields
    Validator.PHONE: _matches(_PHONE, FaultCode.PHONE_FORMAT),
    Validator.EMAIL: _matches(_EMAIL, FaultCode.EMAIL_FORMAT),
    Validator.POSTCODE: _matches(re.compile("[0-9]{6}"), FaultCode.POSTCODE_FORMAT),
    Validator.BANK_CARD: _card_fault,
    Validator.NUMBER: _matches(_NUMBER, FaultCode.NUMBER_FORMAT),
}
_MAY_BEGIN_LIKE_A_FORMULA = frozenset({Validator.PHONE, Validator.NUMBER})


def text_fault(value: str, max_length: int) -> FaultCode | None:
    """What no text may be, whatever it means: too long, with control characters, or run by a spreadsheet.

    The full-width signs count too, since East Asian spreadsheet programs read them as the plain ones.
    """
    if len(value) > max_length:
        return FaultCode.TOO_LONG
    if _CONTROL.search(value):
        return FaultCode.CONTROL_CHARACTER
    if _FORMULA.match(unicodedata.normalize("NFKC", value[:2])):
        return FaultCode.FORMULA
    return None


def value_fault(field: Field, value: str) -> FaultCode | None:
    """The first thing that is wrong with a normalised value by itself; an empty value has no fault."""
    if not value:
        return None
    found = text_fault(value, field.max_length)
    if (
        found is FaultCode.FORMULA
        and field.validator in _MAY_BEGIN_LIKE_A_FORMULA
        and _CHECKS[field.validator](value) is None
    ):
        return None
    return found or _CHECKS[field.validator](value)


# ---- checks across fields


def _related(fields: Iterable[Field]) -> list[dict[str, str]]:
    """For each identifier the ids of the fields that describe the same person, told by what stands before the word.

    `insured_identifier` goes with `insured_sex`, `insured_birth_date` and `insured_identifier_type`.
    """
    return [
        {
            part: field.id.removesuffix("identifier") + part
            for part in ("identifier", "identifier_type", "birth_date", "sex")
        }
        for field in fields
        if field.validator is Validator.IDENTIFIER and field.id.endswith("identifier")
    ]


def _identity_faults(values: Mapping[str, str], ids: Mapping[str, str], today: date) -> list[Fault]:
    """Identifier by its type; birth date and sex agree with a resident ID that is itself without fault (A7.6)."""
    found = []
    born = as_date(values.get(ids["birth_date"], ""))
    if born is not None and born > today:
        found.append(Fault(ids["birth_date"], FaultCode.DATE_IN_FUTURE))
    value, kind = values.get(ids["identifier"], ""), values.get(ids["identifier_type"], "")
    if not value:
        return found
    code = identifier_fault(kind, value)
    if code is not None:
        found.append(Fault(ids["identifier"], code))
    if code is not None or kind != RESIDENT_ID:
        return found
    if ric.get_birth_date(value) > today:
        found.append(Fault(ids["identifier"], FaultCode.IDENTIFIER_DATE))
    elif born is not None and born <= today and born != ric.get_birth_date(value):
        found.append(Fault(ids["birth_date"], FaultCode.BIRTH_DATE_CONTRADICTS))
    sex = values.get(ids["sex"], "")
    if sex in {"male", "female"} and (sex == "male") != (int(value[16]) % 2 == 1):
        found.append(Fault(ids["sex"], FaultCode.SEX_CONTRADICTS))
    return found


def faults(values: Mapping[str, str], form: Form | None, definitions: Mapping[str, Field], today: date) -> list[Fault]:
    """All faults of normalised field values, at most one a field, in the order of the fields given and then missing.

    A field outside the form is refused (E.采集流程); without a form, because the kind of customer is unknown, only the
    values are judged.
    """
    found: dict[str, Fault] = {}
    known = [definitions[name] for name in values if name in definitions]
    for name, value in values.items():
        field = definitions.get(name)
        if field is None:
            found[name] = Fault(name, FaultCode.UNKNOWN_FIELD)
        elif value and form is not None and name not in form.required and name not in form.optional:
            found[name] = Fault(name, FaultCode.OUTSIDE_FORM)
        elif (code := value_fault(field, value)) is not None:
            found[name] = Fault(name, code)
    for ids in _related(known):
        for fault in _identity_faults(values, ids, today):
            found.setdefault(fault.field, fault)
    for name in form.required if form is not None else ():
        if not values.get(name):
            found[name] = Fault(name, FaultCode.REQUIRED)
    return list(found.values())
