"""A minimal XLSX writer whose output depends on nothing but its input: same rows, same bytes.

A spreadsheet library stamps the time into the package, and would be the one that reads it back. This writes what
an office program writes: shared strings, a date style, numbers as numbers, formulas as formulas (ECMA-376 part 1).
"""

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from xml.sax.saxutils import escape

_EPOCH = date(1899, 12, 30)
_STAMP = (2026, 1, 1, 0, 0, 0)
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_PARTS = {
    "[Content_Types].xml": (
        f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_SHEET}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_SHEET}.worksheet+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_SHEET}.styles+xml"/>'
        f'<Override PartName="/xl/sharedStrings.xml" ContentType="{_SHEET}.sharedStrings+xml"/></Types>'
    ),
    "_rels/.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/_rels/workbook.xml.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/>'
        f'<Relationship Id="rId3" Type="{_OFFICE}/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
    ),
    "xl/styles.xml": (
        f'<styleSheet xmlns="{_MAIN}"><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/></numFmts>'
        '<fonts count="1"><font><sz val="11"/><name val="等线"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill>'
        '<fill><patternFill patternType="gray125"/></fill></fills>'
        '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
        '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
        '<cellXfs count="3"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
        '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
        '<xf numFmtId="1" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
    ),
}
_UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0d\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


@dataclass(frozen=True)
class Formula:
    """A cell that a spreadsheet program would compute; `text` is without the equals sign."""

    text: str


Cell = str | int | date | Formula | None


def text_of(value: str) -> str:
    """`value` as an ST_Xstring: what XML cannot carry is written `_xHHHH_` (ECMA-376 part 1, 22.9.2.19)."""
    return escape(_UNSAFE.sub(lambda match: f"_x{ord(match[0]):04X}_", value))


def column_letters(index: int) -> str:
    """`A` for 0, `AA` for 26."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


class _Strings:
    """The shared strings of a workbook, in the order of their first use."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._uses = 0

    def place(self, value: str) -> int:
        self._uses += 1
        return self._places.setdefault(value, len(self._places))

    def xml(self) -> str:
        items = "".join(f'<si><t xml:space="preserve">{text_of(value)}</t></si>' for value in self._places)
        return f'<sst xmlns="{_MAIN}" count="{self._uses}" uniqueCount="{len(self._places)}">{items}</sst>'


def _cell(reference: str, value: Cell, strings: _Strings) -> str:
    match value:
        case None | "":
            return ""
        case str():
            return f'<c r="{reference}" t="s"><v>{strings.place(value)}</v></c>'
        case int():
            return f'<c r="{reference}" s="2"><v>{value}</v></c>'
        case date():
            return f'<c r="{reference}" s="1"><v>{(value - _EPOCH).days}</v></c>'
        case Formula(text):
            return f'<c r="{reference}" t="str"><f>{text_of(text)}</f><v></v></c>'


def workbook(rows: Iterable[Sequence[Cell]], *, sheet: str = "客户") -> bytes:
    """One visible sheet with these rows, the first of them in spreadsheet row 1."""
    strings = _Strings()
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = "".join(_cell(f"{column_letters(at)}{number}", value, strings) for at, value in enumerate(row))
        lines.append(f'<row r="{number}">{cells}</row>')
    parts = _PARTS | {
        "xl/workbook.xml": (
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
            f'<sheet name="{text_of(sheet)}" sheetId="1" r:id="rId1"/></sheets></workbook>'
        ),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>',
        "xl/sharedStrings.xml": strings.xml(),
    }
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        for name, body in parts.items():
            member = zipfile.ZipInfo(name, _STAMP)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, _XML + body)
    return package.getvalue()
