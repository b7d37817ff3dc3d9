"""What pydantic found, and what our own rules found, as plain words at a path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from difflib import SequenceMatcher
from typing import Any, ClassVar, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from warehouse_sync.config.yaml_source import KeyPath

Value = TypeVar("Value")

Found = tuple[KeyPath, str]
"""Where, below the mapping at hand, and what is wrong there."""


class Part(BaseModel):
    """A mapping of the configuration: frozen, without unknown keys, and with all of its problems told at once.

    named: an entry of a section; its `name` is the key that it stands under, never written inside.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True)

    named: ClassVar[bool] = False

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that users write here, in the order of the reference."""
        return [field.alias or name for name, field in cls.model_fields.items() if not (cls.named and name == "name")]

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterable[Found]:
        """Rules between keys, checked on what was written even where a single value is wrong by itself."""
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        return validate(handler, data, cls.rules(data) if isinstance(data, Mapping) else ())


def validate(handler: Callable[[Any], Value], data: Any, found: Iterable[Found]) -> Value:
    """What `handler` makes of `data`. Raises ValidationError with its errors and with all that was `found`."""
    more = [
        InitErrorDetails(type=PydanticCustomError("rule", "{message}", {"message": message}), loc=path, input=None)
        for path, message in found
    ]
    try:
        result = handler(data)
    except ValidationError as error:
        again = [
            InitErrorDetails(
                type=PydanticCustomError(known["type"], known["msg"], known.get("ctx")),
                loc=known["loc"],
                input=known["input"],
            )
            for known in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(error.title, again + more, hide_input=True) from None
    if more:
        raise ValidationError.from_exception_data("configuration", more, hide_input=True)
    return result


def wrong(message: str) -> PydanticCustomError:
    """What a validator of one value raises: `message` is said as it is."""
    return PydanticCustomError("rule", "{message}", {"message": message})


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean x?` when something known resembles `word`, else nothing."""

    def likeness(candidate: str) -> float:
        return SequenceMatcher(None, word.lower(), candidate.lower()).ratio()

    nearest = max(known, key=likeness, default="")
    return f"; did you mean {nearest}?" if likeness(nearest) >= 0.55 else ""


def listed(known: Iterable[str]) -> str:
    """`a, b and c`, in the given order; `none` when there are none."""
    words = list(known)
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:]) or "none"


def problems_of(error: ValidationError, part: type[Part]) -> list[Found]:
    """Every error of a `part` in plain words; no value is repeated in them, it could be a secret."""
    return [
        (_shown(known["loc"]), _words(known["type"], known["loc"], known.get("ctx", {}), known["input"], part))
        for known in error.errors(include_url=False)
    ]


def _shown(path: KeyPath) -> KeyPath:
    return path[:-1] if path and path[-1] == "[key]" else path


_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "dict": "a mapping (lines of key: value)",
    "model": "a mapping (lines of key: value)",
    "tuple": "a list",
    "list": "a list",
    "path": "the name of a file",
}
_LIMITS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "missing; this key must be given",
    "greater_than": lambda limit: f"must be more than {limit['gt']:g}",
    "greater_than_equal": lambda limit: f"must be at least {limit['ge']:g}",
    "less_than": lambda limit: f"must be less than {limit['lt']:g}",
    "less_than_equal": lambda limit: f"must be at most {limit['le']:g}",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda limit: f"must have at most {limit['max_length']} characters",
    "too_short": lambda limit: f"needs at least {limit['min_length']} entry",
    "literal_error": lambda limit: f"must be {limit['expected']}",
    "rule": lambda rule: str(rule["message"]),
}


def _words(kind: str, path: KeyPath, context: Mapping[str, Any], value: Any, part: type[Part]) -> str:
    if kind == "extra_forbidden":
        return _unknown(path, part)
    if kind in _LIMITS:
        return _LIMITS[kind](context)
    expected = _EXPECTED.get(kind.split("_")[0])
    if expected is None:
        return f"this value is not accepted ({kind.replace('_', ' ')})"
    quotes = isinstance(value, bool | int | float | date) and expected == "text"
    return f"{expected} is expected here, found {_kind_of(value)}" + ("; put it in quotes" if quotes else "")


def _kind_of(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false (YAML reads yes, no, on and off as such)"
    if isinstance(value, date):
        return "a date"
    kinds = {int: "a number", float: "a number", str: "text", dict: "a mapping", list: "a list"}
    return kinds.get(type(value), "something else")


def _unknown(path: KeyPath, part: type[Part]) -> str:
    for key in path[:-1]:
        field = next(field for name, field in part.model_fields.items() if key == (field.alias or name))
        kinds = (field.annotation, *get_args(field.annotation))
        part = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part))
    return unknown_key(str(path[-1]), part)


def unknown_key(key: str, part: type[Part]) -> str:
    """What is said of a key that `part` does not have."""
    keys = part.keys()
    return f"unknown key{did_you_mean(key, keys) or '; known here: ' + listed(keys)}"
