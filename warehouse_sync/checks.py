"""What a check of a configuration found. Apart from the checks themselves: checking offline needs no driver."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. subject: its place in the configuration. message: what was found, one sentence.

    warning: it works, but not for long.
    """

    subject: str
    ok: bool
    message: str
    warning: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `validate --json`."""
        return asdict(self)
