"""What a verification finds: one shape for everything that is wrong, whoever found it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

MEANINGS: Final = {
    "altered-entry": "the entry is not the one that the log signed",
    "missing-entry": "the entry that the log signed is not served",
    "inserted-entry": "an entry is served that the log did not sign",
    "missing-bundle": "a bundle of entries is not served",
    "malformed-bundle": "a bundle is no sequence of entries",
    "altered-tile": "a tile of hashes is not that of the signed tree; the entries are whole",
    "missing-tile": "a tile of hashes is not served",
    "wrong-root": "entries and tiles agree with one another, and not with the signed root",
    "forked": "the log's key has signed two trees of which neither continues the other",
    "rolled-back": "the log is smaller than it once was",
    "unsigned": "the checkpoint does not carry the signatures that it must",
    "malformed-checkpoint": "what is served as checkpoint is none",
    "changed-resource": "something immutable is not what it was at an earlier run",
    "not-canonical": "an entry is no leaf of this log's form",
    "missing-event": "a producer's events do not follow one another without a gap",
    "broken-chain": "a leaf does not name the hash of the leaf before it",
    "repeated-event": "a producer's leaf stands where a later one had already stood",
    "wrong-opening": "the log does not begin with the leaf that opens it",
    "misplaced-opening": "a log is opened a second time",
    "wrong-body": "a body does not fit its commitment",
    "missing-body": "a body is not served, and is not said to be erased",
    "not-included": "the proof does not bind the leaf to the signed root",
    "inconsistent": "the old tree is not a prefix of the new one",
}
"""Every kind, and what it means to an auditor."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong. `index` is the first wrong leaf, `last` the last of a range that cannot be told apart."""

    kind: str
    message: str
    log: str = ""
    index: int | None = None
    last: int | None = None
    size: int | None = None
    path: str = ""
    leaf: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    """Of a chain: the index of the leaf before, -1 when there is none. A damage between explains the finding."""

    def at(self, **changes: Any) -> "Finding":
        """The same with more known about it."""
        return replace(self, **changes)

    def told(self) -> dict[str, Any]:
        """As JSON: only what is known."""
        said = {name: value for name, value in asdict(self).items() if name != "after"}
        return {name: value for name, value in said.items() if value not in (None, "", {})}


def told(leaf: dict[str, str]) -> str:
    """A leaf's names as words."""
    return "{producer} {epoch}/{seq} ({id})".format(**leaf) if leaf else "unreadable"
