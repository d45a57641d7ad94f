"""Describes what one trial found, and prints it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`is_sound`: as evalmon needs it; None: for information, evalmon does not rely on it."""

    what: str
    is_sound: bool | None
    words: str

    @property
    def line(self) -> str:
        """One line for people."""
        verdict = "note" if self.is_sound is None else "sound" if self.is_sound else "UNSOUND"
        return f"{verdict:<8} {self.what}: {self.words}"
