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

Violation = tuple[KeyPath, str]
"""Where, below the mapping at hand, and what is wrong there."""


class ConfigObject(BaseModel):
    """A mapping of the configuration: frozen, without unknown keys, and with all of its problems told at once.

    named: an entry of a section; its `name` is the key that it stands under, never written inside.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True)

    named_by_key: ClassVar[bool] = False

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that users write here, in the order of the reference."""
        return [
            field.alias or name for name, field in cls.model_fields.items() if not (cls.named_by_key and name == "name")
        ]

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Rules between keys, checked on what was written even where a single value is wrong by itself."""
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        return validate_with_rules(handler, data, cls.check_rules(data) if isinstance(data, Mapping) else ())


def validate_with_rules(handler: Callable[[Any], Value], data: Any, violations: Iterable[Violation]) -> Value:
    """What `handler` makes of `data`. Raises ValidationError with its errors and with all that was `found`."""
    more = [
        InitErrorDetails(type=PydanticCustomError("rule", "{message}", {"message": message}), loc=path, input=None)
        for path, message in violations
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


def invalid_value(message: str) -> PydanticCustomError:
    """What a validator of one value raises: `message` is said as it is."""
    return PydanticCustomError("rule", "{message}", {"message": message})


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean x?` when something known resembles `word`, else nothing."""

    def likeness(candidate: str) -> float:
        return SequenceMatcher(None, word.lower(), candidate.lower()).ratio()

    nearest = max(known, key=likeness, default="")
    return f"; did you mean {nearest}?" if likeness(nearest) >= 0.55 else ""


def join_names(known: Iterable[str]) -> str:
    """`a, b and c`, in the given order; `none` when there are none."""
    words = list(known)
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:]) or "none"


def describe_errors(error: ValidationError, config_class: type[ConfigObject]) -> list[Violation]:
    """Every error of a `part` in plain words; no value is repeated in them, it could be a secret."""
    return [
        (
            _without_key_marker(known["loc"]),
            _describe_error(known["type"], known["loc"], known.get("ctx", {}), known["input"], config_class),
        )
        for known in error.errors(include_url=False)
    ]


def _without_key_marker(path: KeyPath) -> KeyPath:
    return path[:-1] if path and path[-1] == "[key]" else path


_TYPE_NAMES = {
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
_MESSAGES: dict[str, Callable[[Mapping[str, Any]], str]] = {
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


def _describe_error(
    error_type: str, path: KeyPath, context: Mapping[str, Any], value: Any, config_class: type[ConfigObject]
) -> str:
    if error_type == "extra_forbidden":
        return _describe_unknown_key(path, config_class)
    if error_type in _MESSAGES:
        return _MESSAGES[error_type](context)
    expected = _TYPE_NAMES.get(error_type.split("_")[0])
    if expected is None:
        return f"this value is not accepted ({error_type.replace('_', ' ')})"
    quotes = isinstance(value, bool | int | float | date) and expected == "text"
    return f"{expected} is expected here, found {_describe_type(value)}" + ("; put it in quotes" if quotes else "")


def _describe_type(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false (YAML reads yes, no, on and off as such)"
    if isinstance(value, date):
        return "a date"
    kinds = {int: "a number", float: "a number", str: "text", dict: "a mapping", list: "a list"}
    return kinds.get(type(value), "something else")


def _describe_unknown_key(path: KeyPath, config_class: type[ConfigObject]) -> str:
    for key in path[:-1]:
        field = next(field for name, field in config_class.model_fields.items() if key == (field.alias or name))
        kinds = (field.annotation, *get_args(field.annotation))
        config_class = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, ConfigObject))
    return unknown_key_message(str(path[-1]), config_class)


def unknown_key_message(key: str, config_class: type[ConfigObject]) -> str:
    """What is said of a key that `part` does not have."""
    keys = config_class.keys()
    return f"unknown key{suggest(key, keys) or '; known here: ' + join_names(keys)}"
