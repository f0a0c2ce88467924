"""The spreadsheets that an office would send: one sheet of good and faulty rows, as CSV in three encodings and XLSX."""

import csv
import io
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dossier_local.customers import COLUMNS, DATES, SEED, Row, Source, good
from dossier_local.faulty_customers import faulty_rows
from dossier_local.workbook import Cell, Formula, workbook

_HEADER_ROW = 1


@dataclass(frozen=True)
class Refusal:
    """What an importer must say about one row; `row` is its number in the spreadsheet, where the header is row 1."""

    row: int
    field: str
    code: str


@dataclass(frozen=True)
class Sheet:
    """The rows of one spreadsheet in order, how many of them are good, and what is wrong with the others."""

    rows: tuple[Row, ...]
    accepted: int
    refusals: tuple[Refusal, ...]


def sheet(seed: int = SEED, count: int = 1000, faults: int = 40) -> Sheet:
    """`faults` faulty rows strewn among `count` good ones; a duplicate always stands after the row that it repeats."""
    source = Source(seed)
    originals = good(source, count)
    wrong = faulty_rows(source, faults, originals)
    places: list[tuple[float, int, Row, Refusal | None]] = [(at, 0, row, None) for at, row in enumerate(originals)]
    for index, row in enumerate(wrong):
        first = 0 if row.repeats is None else originals.index(row.repeats)
        at = source.random.randint(first, count) + 0.5
        places.append((at, index, row.values, Refusal(0, row.field, row.code)))
    places.sort(key=lambda place: place[:2])
    refusals = tuple(
        Refusal(number, refusal.field, refusal.code)
        for number, (_, _, _, refusal) in enumerate(places, start=_HEADER_ROW + 1)
        if refusal is not None
    )
    return Sheet(tuple(row for _, _, row, _ in places), count, refusals)


def _headers(language: str) -> list[str]:
    return [zh if language == "zh" else en for zh, en in COLUMNS.values()]


def as_csv(rows: tuple[Row, ...], encoding: str, *, language: str = "zh") -> bytes:
    """CSV with CRLF and minimal quoting, as spreadsheet programs write it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_headers(language))
    writer.writerows(row.values() for row in rows)
    return text.getvalue().encode(encoding)


def _cell(column: str, value: str, *, number: bool) -> Cell:
    if value.startswith("="):
        return Formula(value[1:])
    if column in DATES:
        try:
            return date.fromisoformat(value)
        except ValueError:
            return value
    return int(value) if number and column == "phone" and value.isdigit() else value


def as_xlsx(rows: tuple[Row, ...], *, language: str = "zh") -> bytes:
    """XLSX with dates as dates, formulas as formulas, and every third phone as a number, as hands leave them."""
    header: list[Cell] = [*_headers(language)]
    body = [[_cell(column, value, number=at % 3 == 0) for column, value in row.items()] for at, row in enumerate(rows)]
    return workbook([header, *body])


def files(made: Sheet) -> dict[str, bytes]:
    """File name to content, all with the same rows, and `expected.json` with what an importer must answer."""
    expected = {
        "rows": len(made.rows),
        "accepted": made.accepted,
        "refused": [{"row": refusal.row, "field": refusal.field, "code": refusal.code} for refusal in made.refusals],
    }
    return {
        "customers-gb18030.csv": as_csv(made.rows, "gb18030"),
        "customers-utf8.csv": as_csv(made.rows, "utf-8-sig"),
        "customers-utf8-nobom.csv": as_csv(made.rows, "utf-8"),
        "customers-en.csv": as_csv(made.rows, "utf-8", language="en"),
        "customers.xlsx": as_xlsx(made.rows),
        "expected.json": (json.dumps(expected, ensure_ascii=False, indent=1) + "\n").encode(),
    }


def write(folder: Path, made: Sheet) -> list[Path]:
    """Writes `files` into `folder`, which is made if need be, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in files(made).items():
        path = folder / name
        path.write_bytes(content)
        written.append(path)
    return written
