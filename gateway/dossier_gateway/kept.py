"""What is kept for a while to spare work: a map of bounded size, of which a look-up costs one of a dict."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Keeps at least the `size` entries that were used last, and at most twice as many.

    Two generations: when the young one is full it becomes the old one, and what was old and is not used is forgotten.
    An exact order of use would cost more than what it finds.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The entry, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self[key] = found
        return found

    def __setitem__(self, key: K, value: V) -> None:
        if len(self._young) >= self._size and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young) + sum(each not in self._young for each in self._old)
