"""The table of faults: a row each, over all its runs; as Markdown, and between its markers in a document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.faults.broken import Proof
from tests.faults.rounds import Outcome

COLUMNS: Final = (
    *("fault", "runs", "acknowledged", "stored", "duplicate", "missing", "plaintext without record"),
    "seconds to recover (median, longest)",
)
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


@dataclass
class Row:
    """All runs of one fault."""

    name: str
    restored: bool = False
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def red(self) -> bool:
        """Whether a promise was broken in one of the runs."""
        return any(outcome.red for outcome in self.outcomes)

    def cells(self) -> list[str]:
        """What the table shows."""
        over = self.outcomes
        numbers = (
            len(over),
            sum(outcome.acknowledged for outcome in over),
            sum(outcome.stored for outcome in over),
            sum(outcome.duplicate for outcome in over),
            sum(outcome.missing for outcome in over),
            sum(outcome.unrecorded for outcome in over),
        )
        mark = " ¹" if self.restored else ""
        return [self.name + mark, *(f"{number:,}" for number in numbers), self._seconds()]

    def _seconds(self) -> str:
        seconds = [outcome.seconds for outcome in self.outcomes if outcome.seconds is not None]
        if len(seconds) < len(self.outcomes) or not seconds:
            return "not in time"
        return f"{median(seconds):.1f}, {max(seconds):.1f}"


def rendered(rows: Sequence[Row]) -> str:
    """The table, with a line of sums, and below it what was found in red rows. What was not run has no row."""
    rows = [row for row in rows if row.outcomes]
    sums = Row("all", outcomes=[outcome for row in rows for outcome in row.outcomes])
    lines = [_line(COLUMNS), _line(["---", *["---:"] * (len(COLUMNS) - 1)])]
    lines += [_line(row.cells()) for row in rows]
    lines.append(_line([f"**{cell}**" for cell in sums.cells()]))
    lines += [f"- {row.name}: {text}" for row in rows for outcome in row.outcomes for text in outcome.findings]
    return "\n".join(lines)


def proofs_rendered(proofs: Sequence[Proof]) -> str:
    """The mutants, a row each: what the fault showed of the sound product, and of the broken one."""
    lines = [_line(("broken product", "fault", "sound", "acknowledged", "missing", "plaintext without record", "red"))]
    lines.append(_line(["---", "---", "---", "---:", "---:", "---:", "---"]))
    for proof in proofs:
        sound = (
            "as in the table above" if proof.sound is None else "red" if proof.sound.red else "green, without the feed"
        )
        numbers = (proof.broken.acknowledged, proof.broken.missing, proof.broken.unrecorded)
        fault = f"kill -9 of {proof.mutant.victim}"
        red = "yes" if proof.holds else "**no**"
        lines.append(_line([proof.mutant.name, fault, sound, *(f"{number:,}" for number in numbers), red]))
    return "\n".join(lines)


def write(document: Path, text: str) -> None:
    """Puts the text between the markers of the document. Raises ValueError when they are not there."""
    whole = document.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document.name} has no place for the table of faults")
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
