"""Decisions out of a seed: each by its own name, so that a new one changes none of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """The same seed and name decide the same, under every Python."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def number(self, name: str, below: int) -> int:
        digest = hashlib.blake2b(f"{self._seed}:{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) % below

    def pick(self, name: str, options: Sequence[T]) -> T:
        return options[self.number(name, len(options))]

    def chance(self, name: str, percent: int) -> bool:
        return self.number(name, 100) < percent

    def order(self, name: str, items: Iterable[T]) -> list[T]:
        return sorted(items, key=lambda item: self.number(f"{name}/{item}", 2**32))
