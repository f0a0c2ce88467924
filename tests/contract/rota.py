"""Who calls in the run of schemathesis: the roles whose tokens open an operation, in turn.

Cases that are right by the schema go round on their own, so that each role has its share of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ANONYMOUS: Final = "anonymous"


@dataclass(frozen=True, slots=True)
class Turn:
    """One case of an operation: who sends it, and in which of the rounds over the roles."""

    role: str
    authorization: str | None
    number: int


class Rota:
    """Deals out the cases of each operation; somebody may call each."""

    def __init__(self, authorizations: Mapping[str, str | None], opened: Mapping[str, Sequence[str]]) -> None:
        self._authorizations, self._opened = authorizations, opened
        self._dealt: Counter[tuple[str, bool]] = Counter()

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> "Rota":
        """As `written` gives them."""
        return cls(written["authorizations"], written["opened"])

    def written(self) -> dict[str, Any]:
        """For the process of the run."""
        return {"authorizations": self._authorizations, "opened": self._opened}

    def of(self, operation: str) -> Sequence[str]:
        """The roles that may call it."""
        return self._opened[operation]

    def next(self, operation: str, *, right: bool) -> Turn:
        """Whose turn it is."""
        roles = self._opened[operation]
        number, place = divmod(self._dealt[operation, right], len(roles))
        self._dealt[operation, right] += 1
        return Turn(roles[place], self._authorizations[roles[place]], number)

    def role(self, authorization: str | None) -> str:
        """Whose header this is."""
        return next(role for role, held in self._authorizations.items() if held == authorization)
