import csv
import io
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime
from datetime import time as time_of_day
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_common.policy import load_policy
from dossier_local import customer_files
from dossier_local.workbook import Cell, Formula, workbook
from dossier_records import spreadsheets, workbooks
from dossier_records.faults import FaultCode
from dossier_records.spreadsheets import CSV, XLSX, Limits, Reason, Row, UnreadableSpreadsheet

POLICY = load_policy(Path(__file__).parents[2] / "deploy/policies/baseline.yaml")
MEANINGS = spreadsheets.headers(POLICY)
HEADER = ("姓名", "联系电话", "备注")


def read(data: bytes, media_type: str = CSV, charset: str | None = None, limits: Limits | None = None) -> list[Row]:
    return list(spreadsheets.read(data, media_type, charset, meanings=MEANINGS, limits=limits))


def refusal(
    data: bytes, media_type: str = CSV, charset: str | None = None, limits: Limits | None = None
) -> UnreadableSpreadsheet:
    with pytest.raises(UnreadableSpreadsheet) as caught:
        spreadsheets.read(data, media_type, charset, meanings=MEANINGS, limits=limits)  # before the first row
    return caught.value


def csv_of(rows: Sequence[Sequence[str]], encoding: str = "utf-8", delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode(encoding)


def repacked(data: bytes, changes: dict[str, bytes]) -> bytes:
    package = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as target:
        for name in dict.fromkeys([*source.namelist(), *changes]):
            target.writestr(name, changes[name] if name in changes else source.read(name))
    return package.getvalue()


ONE = [HEADER, ("欧阳昱淇", "13812345678", "柜台")]
PLAIN = [Row(2, {"name": "欧阳昱淇", "phone": "13812345678", "remarks": "柜台"})]
BOOK = workbook(ONE)


# ---- the same rows from every format


def test_every_format_gives_the_same_rows() -> None:
    files = customer_files.files(customer_files.sheet())
    readings = [read(content) for name, content in files.items() if name.startswith("customers")]
    assert len(readings) == 5
    assert len(readings[0]) == 1040
    assert all(reading == readings[0] for reading in readings)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_delimiter_and_encoding_are_found(delimiter: str, encoding: str) -> None:
    assert read(csv_of(ONE, encoding, delimiter)) == PLAIN


@pytest.mark.parametrize(
    ("charset", "encoding"), [("UTF-8", "utf-8-sig"), ("gbk", "gb18030"), ('"GB18030"', "gb18030")]
)
def test_a_given_charset_is_binding(charset: str, encoding: str) -> None:
    assert read(csv_of(ONE, encoding), charset=charset) == PLAIN
    other = "utf-8" if encoding == "gb18030" else "latin-1"
    assert refusal(csv_of(ONE, "gb18030"), charset=other).reason is Reason.BAD_ENCODING


def test_characters_beyond_gbk_survive() -> None:
    assert read(csv_of([HEADER, ("𠮷野家康", "13812345678", "")], "gb18030"))[0].values["name"] == "𠮷野家康"


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=12)] * 3), max_size=8))
def test_csv_and_xlsx_give_the_same_row_whatever_the_cells_say(cells: list[tuple[str, str, str]]) -> None:
    rows: list[tuple[Cell, ...]] = [HEADER, *cells]
    as_text = [[str(cell) for cell in row] for row in rows]
    assert read(workbook(rows)) == read(csv_of(as_text)) == read(csv_of(as_text, "gb18030"), charset="gb18030")


# ---- cells of a workbook


def test_cells_of_every_kind_become_text() -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    values: list[date | datetime | time_of_day | float | str] = [
        date(1990, 1, 5),
        datetime(2020, 2, 3, 4, 5),  # noqa: DTZ001 - a spreadsheet knows no zones
        time_of_day(4, 5),
        13812345678,
        13812345678.0,
        1.5,
        True,
        "=1+1",
    ]
    sheet.append(["姓名", "备注"])
    for value in values:
        sheet.append(("甲", value))
    package = io.BytesIO()
    book.save(package)
    assert [row.values["remarks"] for row in read(package.getvalue(), XLSX)] == [
        "1990-01-05",
        "2020-02-03 04:05:00",
        "04:05:00",
        "13812345678",
        "13812345678",
        "1.5",
        "TRUE",
        "=1+1",
    ]


@pytest.mark.parametrize("kind", ["", ' t="array" ref="C2"', ' t="shared" si="0" ref="C2"', ' t="dataTable" ref="C2"'])
def test_a_formula_stays_its_text(kind: str) -> None:
    book = workbook([HEADER, ("甲", "1", Formula("cmd|' /C calc'!A0"))])
    with zipfile.ZipFile(io.BytesIO(book)) as package:
        sheet = package.read("xl/worksheets/sheet1.xml").replace(b"<f>", f"<f{kind}>".encode())
    assert read(repacked(book, {"xl/worksheets/sheet1.xml": sheet}))[0].values["remarks"] == "=cmd|' /C calc'!A0"


def test_only_the_first_visible_sheet_is_read() -> None:
    book = openpyxl.Workbook()
    hidden, visible, other = book.worksheets[0], book.create_sheet("客户"), book.create_sheet("说明")
    hidden.sheet_state = "hidden"
    for row in ONE:
        hidden.append(["密码"])
        visible.append(list(row))
        other.append(["说明"])
    package = io.BytesIO()
    book.save(package)
    assert read(package.getvalue()) == PLAIN


# ---- rows as people see them


def test_row_numbers_are_those_of_the_spreadsheet_program() -> None:
    rows: list[tuple[str, ...]] = [HEADER, ("甲", "", "两\n行"), (), ("", "", " "), ("乙", "", "")]
    assert [(row.number, row.values["name"]) for row in read(csv_of(rows))] == [(2, "甲"), (5, "乙")]
    assert [(row.number, row.values["name"]) for row in read(workbook(rows))] == [(2, "甲"), (5, "乙")]


def test_a_title_above_the_header_is_passed_over() -> None:
    rows = [("客户信息表",), ("", "打印日期", "2026-11-22"), *ONE]
    assert [row.number for row in read(csv_of(rows))] == [4]
    assert [row.number for row in read(workbook(rows))] == [4]


def test_headers_are_known_in_both_languages_and_with_decoration() -> None:
    assert read(csv_of([("* 姓 名(必填)", "PHONE :", "remarks"), ONE[1]])) == PLAIN


def test_short_rows_have_empty_values_and_long_ones_a_fault() -> None:
    rows = read(csv_of([HEADER, ("甲",), ("乙", "1", "", "", "多"), ("丙", "1", "", "", "")]))
    assert rows[0].values == {"name": "甲", "phone": "", "remarks": ""}
    assert [[fault.code for fault in row.faults] for row in rows] == [[], [FaultCode.EXTRA_CELLS], []]


def test_content_in_a_column_without_header_is_a_fault_of_its_row() -> None:
    rows = read(csv_of([("姓名", "", "联系电话"), ("甲", "", "1"), ("乙", "?", "2")]))
    assert [bool(row.faults) for row in rows] == [False, True]
    assert rows[1].values == {"name": "乙", "phone": "2"}


# ---- files that are refused, in whole and before their first row


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.NO_HEADER),
        (b"\n\n", Reason.NO_HEADER),
        ("甲,13812345678,柜台\n".encode(), Reason.NO_HEADER),
        (b"\xff\xfe\x00", Reason.BAD_ENCODING),
        ("姓名,联系电话,鞋码\n".encode(), Reason.UNKNOWN_HEADERS),
        ("姓名,联系电话,手机\n".encode(), Reason.REPEATED_HEADERS),
        ('姓名,联系电话\n甲,1\n"乙,2\n丙,3\n'.encode(), Reason.MALFORMED),
        (b"PK\x03\x04 and nothing", Reason.NOT_A_SPREADSHEET),
        (bytes.fromhex("D0CF11E0A1B11AE1") + b"an old workbook", Reason.NOT_A_SPREADSHEET),
        (bytes.fromhex("D0CF11E0A1B11AE1") + "EncryptedPackage".encode("utf-16-le"), Reason.ENCRYPTED),
        (workbook([]), Reason.NO_HEADER),
        (workbook([("甲", 1, "柜台")]), Reason.NO_HEADER),
        (repacked(BOOK, {"xl/workbook.xml": b"<workbook"}), Reason.NOT_A_SPREADSHEET),
        (repacked(BOOK, {"xl/worksheets/sheet1.xml": b"<worksheet><sheetData><row r='x'/>"}), Reason.NOT_A_SPREADSHEET),
    ],
)
def test_an_unreadable_file_is_refused_with_its_reason(data: bytes, reason: Reason) -> None:
    assert refusal(data).reason is reason


def test_text_that_is_called_a_workbook_is_refused() -> None:
    assert refusal(csv_of(ONE), XLSX).reason is Reason.NOT_A_SPREADSHEET


def test_a_refusal_names_positions_and_never_repeats_a_cell() -> None:
    unknown = refusal(csv_of([("姓名", "联系电话", "王小明的鞋码")]))
    assert (unknown.row, unknown.places) == (1, ("C",))
    unclosed = refusal('姓名,联系电话\n甲,1\n"王小明,2\n丙,3\n'.encode())
    assert unclosed.row == 3
    damaged = refusal(repacked(BOOK, {"xl/worksheets/sheet1.xml": b"<row>\xe7\x8e\x8b</col>"}))
    for error in (unknown, unclosed, damaged):
        assert str(error) == error.reason.value
        assert error.__cause__ is None or re.fullmatch("[A-Za-z]+", str(error.__cause__))


def test_missing_columns_are_named_by_the_policy() -> None:
    with pytest.raises(UnreadableSpreadsheet) as caught:
        spreadsheets.read(csv_of(ONE), CSV, None, meanings=MEANINGS, required=spreadsheets.required_columns(POLICY))
    assert caught.value.reason is Reason.MISSING_COLUMNS
    assert caught.value.places == ("customer_type", "identifier", "identifier_type", "importance", "opened_on")


@pytest.mark.parametrize("make", [csv_of, workbook])
def test_limits_on_bytes_rows_and_columns(make: Callable[..., bytes]) -> None:
    many = make([HEADER, *[("甲", "1", "")] * 11])
    assert len(read(many, limits=Limits(max_rows=11))) == 11
    assert refusal(many, limits=Limits(max_rows=10)).reason is Reason.TOO_MANY_ROWS
    assert refusal(many, limits=Limits(max_bytes=len(many) - 1)).reason is Reason.TOO_LARGE
    wide = make([(*HEADER, *[""] * 20, "多"), ("甲", "1")])
    assert refusal(wide, limits=Limits(max_columns=10)).reason is Reason.UNKNOWN_HEADERS


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = repacked(BOOK, {"xl/worksheets/sheet1.xml": b"<worksheet>" + b" " * 30_000_000})
    start = time.perf_counter()
    assert refusal(bomb).reason is Reason.ZIP_BOMB
    assert refusal(bomb, limits=Limits(max_ratio=10_000, max_unpacked=20_000_000)).reason is Reason.ZIP_BOMB
    assert time.perf_counter() - start < 1
    crowd = repacked(BOOK, {f"xl/{number}.xml": b"" for number in range(1_001)})
    assert refusal(crowd).reason is Reason.ZIP_BOMB


def test_a_file_that_claims_the_last_row_and_column_is_read_in_no_time() -> None:
    with zipfile.ZipFile(io.BytesIO(BOOK)) as package:
        sheet = package.read("xl/worksheets/sheet1.xml")
    wide = sheet.replace(b"<sheetData>", b'<dimension ref="A1:XFD1048576"/><sheetData>')
    wide = wide.replace(b"</sheetData>", b'<row r="9999"><c r="XFD9999"><v>1</v></c></row></sheetData>')
    start = time.perf_counter()
    rows = read(repacked(BOOK, {"xl/worksheets/sheet1.xml": wide}))
    assert rows[:1] == PLAIN
    assert [(row.number, [fault.code for fault in row.faults]) for row in rows[1:]] == [(9999, ["extra-cells"])]
    assert time.perf_counter() - start < 1
    beyond = sheet.replace(b'r="2"', b'r="99999999999"')
    start = time.perf_counter()
    assert refusal(repacked(BOOK, {"xl/worksheets/sheet1.xml": beyond})).reason is Reason.NOT_A_SPREADSHEET
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(encoding: str) -> None:
    entity = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE sst [<!ENTITY a "aaaa">]><sst><si><t>&a;</t></si></sst>'
    )
    assert refusal(repacked(BOOK, {"xl/sharedStrings.xml": entity.encode(encoding)})).reason is Reason.NOT_A_SPREADSHEET


def test_a_package_with_a_password_is_refused() -> None:
    flagged = bytearray(BOOK)
    at = flagged.index(b"PK\x01\x02")
    flagged[at + 8] |= 1
    assert refusal(bytes(flagged)).reason is Reason.ENCRYPTED


# ---- whatever the bytes


@settings(deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from(["", "PK\x03\x04", "姓名,联系电话\n", '姓名;联系电话\n"']), st.booleans()
)
def test_random_bytes_are_read_or_refused(data: bytes, start: str, called_xlsx: bool) -> None:  # noqa: FBT001
    try:
        read(start.encode() + data, XLSX if called_xlsx else CSV)
    except UnreadableSpreadsheet:
        return


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BOOK) - 1), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_damaged_workbook_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(BOOK)
    for at, value in changes:
        damaged[at] = value
    try:
        read(bytes(damaged))
    except UnreadableSpreadsheet:
        return


PARTS = ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml", "[Content_Types].xml"]


@settings(deadline=None)
@given(st.sampled_from(PARTS), st.integers(0, 1_000), st.integers(0, 30), st.text("<>/&;=\"' rstv019A_x", max_size=8))
def test_wrong_xml_is_read_or_refused(part: str, at: int, removed: int, inserted: str) -> None:
    with zipfile.ZipFile(io.BytesIO(BOOK)) as package:
        content = package.read(part)
    changed = content[:at] + inserted.encode() + content[at + removed :]
    try:
        read(repacked(BOOK, {part: changed}))
    except UnreadableSpreadsheet:
        return


@pytest.mark.invariant(7)
def test_nothing_is_written_to_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a temporary file")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.chdir(tmp_path)
    assert read(BOOK) == read(csv_of(ONE)) == PLAIN
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_rows_of_csv_a_second() -> None:
    made = customer_files.sheet()
    data = customer_files.as_csv(made.rows * 10, "gb18030")
    start = time.perf_counter()
    assert len(read(data)) == 10_400
    assert time.perf_counter() - start < 1.04


def test_a_sheet_of_the_greatest_size_is_within_the_limits() -> None:
    assert workbooks.Limits().max_rows <= 50_000
    row: tuple[Cell, ...] = ("欧阳昱淇", 13812345678, "柜台" * 10)
    data = workbook([HEADER, *[row] * 20_000])
    start = time.perf_counter()
    assert len(read(data)) == 20_000
    assert time.perf_counter() - start < 20
