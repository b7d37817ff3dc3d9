"""All contenders, by name."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import ours
from benchmarks.contenders.base import Contender, Place, WrongResult
from benchmarks.measuring import module
from benchmarks.sink import SEGMENT
from benchmarks.sinks import Counts


class Ours(Contender):
    """The product."""

    name = "ours"

    def command(self, place: Place) -> list[str]:
        config = place.files / "sync.yaml"
        ours.write_config(config, place.url, place.sink_url, SEGMENT, place.requests_per_minute)
        return module("contenders.ours", str(config))

    def check(self, place: Place, counts: Counts, told: dict[str, Any]) -> None:
        super().check(place, counts, told)
        if told["status"] != "succeeded":
            raise WrongResult(f"ours: the run ended as {told['status']}")


CONTENDERS: dict[str, Contender] = {each.name: each for each in (Ours(),)}
