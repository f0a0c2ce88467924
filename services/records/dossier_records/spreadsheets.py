"""Reads what offices send: CSV in UTF-8 or GB18030, and XLSX; from memory, and never to disk (invariant 7).

A file is readable in whole or refused before its first row. What is wrong with one row is a fault of that row and
spoils no other. Rows carry the numbers that people see in their spreadsheet program.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from dossier_common.policy import Column, Field, Policy
from dossier_records import workbooks
from dossier_records.faults import Fault, FaultCode
from dossier_records.workbooks import Limits, Reason, UnreadableSpreadsheet

__all__ = ["Limits", "Reason", "Row", "UnreadableSpreadsheet", "headers", "read", "required_columns"]

CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

_CHARSETS = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii"), "utf-8-sig"),
    **dict.fromkeys(("gb18030", "gbk", "gb2312", "cp936", "x-gbk"), "gb18030"),
}
_DELIMITERS = ",;\t"
_HEADER_WITHIN = 10  # offices put a title and a date of printing above their tables
_SNIFFED = 100_000
_EDGES = " \t\n\u00a0\u3000"
_DECORATION = re.compile(r"[\s_\-*:]+|\((?:必填|选填|required|optional)\)")
_END = "\x00end of file\x00"

Cells = tuple[int, list[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """A row by column and field ids, all columns of the header present, the edges of cells trimmed."""

    number: int
    values: Mapping[str, str]
    faults: tuple[Fault, ...] = ()


def _folded(header: str) -> str:
    return _DECORATION.sub("", unicodedata.normalize("NFKC", header).casefold())


def headers(policy: Policy) -> dict[str, str]:
    """Folded headers, in Chinese and English, and the column or field that they mean."""
    meanings: dict[str, str] = {}
    items: list[Column | Field] = [*policy.columns, *policy.fields]
    for item in items:
        for header in (*item.headers, item.title.zh, item.title.en, item.id):
            meanings.setdefault(_folded(header), item.id)
    return meanings


def required_columns(policy: Policy, customer_class: str = "general") -> frozenset[str]:
    """What every file must have a column for: required columns, and fields that all forms of the class require."""
    forms = [frozenset(form.required) for form in policy.forms if customer_class in form.classes]
    shared = frozenset.intersection(*forms) if forms else frozenset[str]()
    return shared | {column.id for column in policy.columns if column.required}


def read(
    data: bytes,
    media_type: str,
    charset: str | None,
    *,
    meanings: Mapping[str, str],
    required: Collection[str] = (),
    limits: Limits | None = None,
) -> Iterator[Row]:
    """The rows below the header. XLSX is known by its first bytes; CSV is UTF-8, with or without BOM, else GB18030.

    A `charset` that is given is binding. Raises UnreadableSpreadsheet, always before the first row.
    """
    limits = limits or Limits()
    if len(data) > limits.max_bytes:
        raise UnreadableSpreadsheet(Reason.TOO_LARGE)
    if workbooks.is_compound_file(data):
        raise UnreadableSpreadsheet(workbooks.compound_reason(data))
    if workbooks.is_workbook(data):
        cells = iter(workbooks.rows(data, limits, above=_HEADER_WITHIN))
    elif media_type == XLSX:
        raise UnreadableSpreadsheet(Reason.NOT_A_SPREADSHEET)
    else:
        cells = _csv_rows(_decoded(data, charset), meanings, limits)
    columns, body = _below_header(cells, meanings, limits)
    absent = sorted(set(required).difference(columns))
    if absent:
        raise UnreadableSpreadsheet(Reason.MISSING_COLUMNS, places=tuple(absent))
    kept = list(islice(body, limits.max_rows + 1))
    if len(kept) > limits.max_rows:
        raise UnreadableSpreadsheet(Reason.TOO_MANY_ROWS)
    return _rows(kept, columns)


# ---- CSV


def _decoded(data: bytes, charset: str | None) -> str:
    if charset is not None:
        codecs = [_CHARSETS.get(charset.strip().strip('"').lower(), "")]
    else:
        codecs = ["utf-8-sig", "gb18030"]
    for codec in filter(None, codecs):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    raise UnreadableSpreadsheet(Reason.BAD_ENCODING) from None


def _delimiter(text: str, meanings: Mapping[str, str]) -> str:
    """The delimiter under which the first lines have most known headers."""

    def known(delimiter: str) -> int:
        lines = csv.reader(io.StringIO(text[:_SNIFFED], newline=""), delimiter=delimiter)
        try:
            return max((len(_known(row, meanings)) for row in islice(lines, 3 * _HEADER_WITHIN)), default=0)
        except csv.Error:
            return 0

    return max(_DELIMITERS, key=known)


def _csv_rows(text: str, meanings: Mapping[str, str], limits: Limits) -> Iterator[Cells]:
    """Records with the numbers that a spreadsheet program gives them: blank lines count, lines within quotes do not.

    A mark behind the last line tells a quote that is never closed, which would swallow all rows after it unnoticed.
    """
    delimiter = _delimiter(text, meanings)
    records = csv.reader(chain(io.StringIO(text, newline=""), [_END]), delimiter=delimiter)
    number = 0
    try:
        for number, record in enumerate(records, start=1):
            if record and record[-1].endswith(_END):
                if record == [_END]:
                    return
                raise UnreadableSpreadsheet(Reason.MALFORMED, row=number)
            if len(record) > limits.max_columns:
                record[limits.max_columns :] = [next(filter(None, record[limits.max_columns :]), "")]
            if record and any(record):
                yield number, record
    except csv.Error:
        raise UnreadableSpreadsheet(Reason.MALFORMED, row=number + 1) from None


# ---- header and rows


def _known(cells: Iterable[str], meanings: Mapping[str, str]) -> set[str]:
    return {meanings[folded] for cell in cells if (folded := _folded(cell)) in meanings}


def _below_header(
    cells: Iterator[Cells], meanings: Mapping[str, str], limits: Limits
) -> tuple[list[str], Iterator[Cells]]:
    """The meaning of each column, empty for one without header, and the rows that follow."""
    for number, row in islice(cells, _HEADER_WITHIN):
        if len(_known(row, meanings)) < 2:
            continue
        columns = [meanings.get(_folded(cell), None if _clean(cell) else "") for cell in row]
        unknown = [_letters(at) for at, column in enumerate(columns) if column is None]
        if unknown or (len(columns) > limits.max_columns and columns[limits.max_columns]):
            raise UnreadableSpreadsheet(Reason.UNKNOWN_HEADERS, row=number, places=tuple(unknown))
        named = [column for column in columns if column]
        repeated = sorted({column for column in named if named.count(column) > 1})
        if repeated:
            raise UnreadableSpreadsheet(Reason.REPEATED_HEADERS, row=number, places=tuple(repeated))
        return [column or "" for column in columns], cells
    raise UnreadableSpreadsheet(Reason.NO_HEADER)


def _letters(at: int) -> str:
    """`A` for column 0, `AA` for 26."""
    letters = ""
    at += 1
    while at:
        at, rest = divmod(at - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _clean(cell: str) -> str:
    if "\r" in cell:
        cell = cell.replace("\r\n", "\n").replace("\r", "\n")
    return cell.strip(_EDGES)


def _rows(kept: Sequence[Cells], columns: list[str]) -> Iterator[Row]:
    nameless = [at for at, column in enumerate(columns) if not column]
    width = len(columns)
    for number, cells in kept:
        cleaned = [_clean(cell) for cell in cells]
        values = dict.fromkeys(columns, "")
        values.update(zip(columns, cleaned, strict=False))
        extra = any(cleaned[width:]) or any(cleaned[at] for at in nameless if at < len(cleaned))
        values.pop("", None)
        if any(values.values()) or extra:
            yield Row(number, values, (Fault("", FaultCode.EXTRA_CELLS),) if extra else ())
