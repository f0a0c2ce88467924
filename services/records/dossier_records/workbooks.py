"""XLSX as rows of text, from memory, behind limits that are checked before anything is unpacked."""

import io
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from itertools import islice
from typing import Any
from xml.parsers import expat

import openpyxl
from openpyxl.worksheet._reader import WorkSheetParser
from openpyxl.xml.constants import SHEET_MAIN_NS

_SILENCE = threading.Lock()
_LAST_ROW = 1_048_576  # ECMA-376: no worksheet has more
_MAX_PARTS = 1_000
_RATIO_FROM = 1024 * 1024
_CHUNK = 64 * 1024
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class Reason(StrEnum):
    """Why a file is not read; stable names that clients rely on."""

    NOT_A_SPREADSHEET = "not-a-spreadsheet"
    ENCRYPTED = "encrypted"
    BAD_ENCODING = "bad-encoding"
    MALFORMED = "malformed"
    NO_HEADER = "no-header"
    UNKNOWN_HEADERS = "unknown-headers"
    REPEATED_HEADERS = "repeated-headers"
    MISSING_COLUMNS = "missing-columns"
    TOO_MANY_ROWS = "too-many-rows"
    TOO_LARGE = "too-large"
    ZIP_BOMB = "zip-bomb"


class UnreadableSpreadsheet(Exception):  # the state of the file, as problems are named
    """The file as a whole is refused; `row` and `places` (column letters, or ids of the policy) say where.

    Never contains what a cell says: the first row of a file without header is a customer.
    """

    def __init__(self, reason: Reason, *, row: int | None = None, places: tuple[str, ...] = ()) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.row = row
        self.places = places


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost."""

    max_bytes: int = 16 * 1024 * 1024
    max_rows: int = 50_000
    max_columns: int = 200
    max_unpacked: int = 128 * 1024 * 1024
    max_ratio: int = 200


def is_workbook(data: bytes) -> bool:
    """Whether the bytes begin like a ZIP package."""
    return data.startswith(b"PK\x03\x04")


def is_compound_file(data: bytes) -> bool:
    """Whether the bytes begin like an OLE file: a workbook with a password, or one of a program before 2007."""
    return data.startswith(bytes.fromhex("D0CF11E0A1B11AE1"))


def compound_reason(data: bytes) -> Reason:
    """Why an OLE file is refused (MS-OFFCRYPTO 2.3.4.4 names the stream of an encrypted package)."""
    return Reason.ENCRYPTED if "EncryptedPackage".encode("utf-16-le") in data else Reason.NOT_A_SPREADSHEET


def rows(data: bytes, limits: Limits, *, above: int) -> list[tuple[int, list[str]]]:
    """Row numbers and cells as text of the first visible sheet, blank rows left out; formulas as their text.

    Stops one row behind the limit, not counting `above` rows that may stand over and in the header. Raises
    UnreadableSpreadsheet. One thread at a time, since openpyxl's warnings quote cells and are silenced by a filter
    that belongs to the whole process.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            _guard(package, limits)
        with _SILENCE, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(islice(_cells(data, limits), limits.max_rows + above + 1))
    except UnreadableSpreadsheet:
        raise
    except Exception as error:  # noqa: BLE001 - any failure of the readers means one thing: these bytes are no workbook
        raise UnreadableSpreadsheet(Reason.NOT_A_SPREADSHEET) from _without_content(error)


def _without_content(error: Exception) -> Exception:
    """The kind of failure without its message, which may quote a cell (invariant 7)."""
    return RuntimeError(type(error).__name__)


def _guard(package: zipfile.ZipFile, limits: Limits) -> None:
    """Refuses bombs, passwords and entities by the directory and the prologues alone.

    `zipfile` never unpacks more of a part than its directory says, so the sum of what it says is the limit.
    """
    parts = package.infolist()
    if any(part.flag_bits & 0x1 for part in parts):
        raise UnreadableSpreadsheet(Reason.ENCRYPTED)
    unpacked, packed = sum(part.file_size for part in parts), sum(part.compress_size for part in parts)
    if len(parts) > _MAX_PARTS or unpacked > limits.max_unpacked:
        raise UnreadableSpreadsheet(Reason.ZIP_BOMB)
    if unpacked > _RATIO_FROM and unpacked > limits.max_ratio * max(packed, 1):
        raise UnreadableSpreadsheet(Reason.ZIP_BOMB)
    if len({part.filename for part in parts}) != len(parts):
        raise UnreadableSpreadsheet(Reason.NOT_A_SPREADSHEET)
    for part in parts:
        if part.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise UnreadableSpreadsheet(Reason.NOT_A_SPREADSHEET)
        if part.filename.lower().endswith((".xml", ".rels", ".vml")):
            _refuse_doctype(package, part)


def _refuse_doctype(package: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """A document type could define entities (billion laughs, XXE); OOXML parts have none (ECMA-376 part 2, 9.1.4)."""
    seen: list[bool] = []
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = lambda *_: seen.append(True)
    parser.StartElementHandler = lambda *_: seen.append(False)
    with package.open(part) as content:
        while not seen and (chunk := content.read(_CHUNK)):
            parser.Parse(chunk, False)  # noqa: FBT003 - positional in the C interface
    if seen and seen[0]:
        raise UnreadableSpreadsheet(Reason.NOT_A_SPREADSHEET)


class _Sheet(WorkSheetParser):
    """Rows and cells of a sheet as they stand.

    Formulas are neither translated nor parsed: one that cannot be parsed must not spoil the other rows.
    """

    def parse_formula(self, element: Any) -> str:
        return "=" + (element.findtext(f"{{{SHEET_MAIN_NS}}}f") or "")


def _cells(data: bytes, limits: Limits) -> Iterator[tuple[int, list[str]]]:
    book: Any = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=False, keep_links=False)
    try:
        sheet = next((sheet for sheet in book.worksheets if sheet.sheet_state == "visible"), None)
        if sheet is None:
            raise UnreadableSpreadsheet(Reason.NO_HEADER)
        # The parser beneath openpyxl's read-only sheet: that one fills the gaps that a file claims with empty rows.
        with sheet._get_source() as source:  # noqa: SLF001
            parser = _Sheet(
                source,
                sheet._shared_strings,  # noqa: SLF001
                data_only=False,
                epoch=book.epoch,
                date_formats=book._date_formats,  # noqa: SLF001
                timedelta_formats=book._timedelta_formats,  # noqa: SLF001
            )
            for number, cells in parser.parse():
                if not 1 <= number <= _LAST_ROW:
                    raise UnreadableSpreadsheet(Reason.NOT_A_SPREADSHEET)
                if row := _row(cells, limits.max_columns):
                    yield number, row
    finally:
        book.close()


def _row(cells: list[dict[str, Any]], last: int) -> list[str]:
    """The texts of a row by column, empty for a blank row; what stands beyond the last column counts as one more."""
    texts = {min(cell["column"] - 1, last): text for cell in cells if (text := _text(cell["value"]))}
    return [texts.get(at, "") for at in range(max(texts) + 1)] if texts else []


def _text(value: Any) -> str:  # noqa: PLR0911 - a kind of cell each
    match value:
        case None:
            return ""
        case str():
            return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value) if "_x" in value else value
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case datetime():
            return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)
