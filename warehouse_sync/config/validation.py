"""Validation of configuration objects: rules between keys, and messages in plain words, each at a path of keys."""

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
"""A path below the mapping that is validated, and what is wrong there."""


class ConfigObject(BaseModel):
    """Base of every mapping in a configuration: frozen, without unknown keys, all problems reported at once.

    Attributes:
        named_by_key: Whether it is an entry of a section. Then `name` is its key there and not written inside.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True)

    named_by_key: ClassVar[bool] = False

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that users can write here, in the order of the reference."""
        return [
            field.alias or name for name, field in cls.model_fields.items() if not (cls.named_by_key and name == "name")
        ]

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Yield the violations of rules between keys.

        Args:
            written: What the user wrote; single values may be invalid.
        """
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        return validate_with_rules(handler, data, cls.check_rules(data) if isinstance(data, Mapping) else ())


def validate_with_rules(handler: Callable[[Any], Value], data: Any, violations: Iterable[Violation]) -> Value:
    """Return the validated `data`.

    Args:
        handler: Pydantic's own validation.
        data: What the user wrote.
        violations: What other checks found.

    Raises:
        ValidationError: Pydantic found errors or there are violations; the exception holds all of them.
    """
    violation_details = [
        InitErrorDetails(type=PydanticCustomError("rule", "{message}", {"message": message}), loc=path, input=None)
        for path, message in violations
    ]
    try:
        result = handler(data)
    except ValidationError as error:
        error_details = [
            InitErrorDetails(
                type=PydanticCustomError(found["type"], found["msg"], found.get("ctx")),
                loc=found["loc"],
                input=found["input"],
            )
            for found in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(
            error.title, error_details + violation_details, hide_input=True
        ) from None
    if violation_details:
        raise ValidationError.from_exception_data("configuration", violation_details, hide_input=True)
    return result


def invalid_value(message: str) -> PydanticCustomError:
    """Return the exception that a validator of one value raises; `message` is shown unchanged."""
    return PydanticCustomError("rule", "{message}", {"message": message})


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean x?` if `word` resembles a known name, else an empty text."""

    def similarity(candidate: str) -> float:
        return SequenceMatcher(None, word.lower(), candidate.lower()).ratio()

    nearest = max(known, key=similarity, default="")
    return f"; did you mean {nearest}?" if similarity(nearest) >= 0.55 else ""


def join_names(known: Iterable[str]) -> str:
    """Return `a, b and c`, in the given order; `none` if there are no names."""
    words = list(known)
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:]) or "none"


def describe_errors(error: ValidationError, config_class: type[ConfigObject]) -> list[Violation]:
    """Return every error of a configuration object in plain words. They repeat no value, it could be a secret."""
    return [
        (
            _without_key_marker(found["loc"]),
            _describe_error(found["type"], found["loc"], found.get("ctx", {}), found["input"], config_class),
        )
        for found in error.errors(include_url=False)
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
    types = {int: "a number", float: "a number", str: "text", dict: "a mapping", list: "a list"}
    return types.get(type(value), "something else")


def _describe_unknown_key(path: KeyPath, config_class: type[ConfigObject]) -> str:
    for key in path[:-1]:
        field = next(field for name, field in config_class.model_fields.items() if key == (field.alias or name))
        types = (field.annotation, *get_args(field.annotation))
        config_class = next(type_ for type_ in types if isinstance(type_, type) and issubclass(type_, ConfigObject))
    return unknown_key_message(str(path[-1]), config_class)


def unknown_key_message(key: str, config_class: type[ConfigObject]) -> str:
    """Return the message about a key that objects of `config_class` do not have."""
    keys = config_class.keys()
    return f"unknown key{suggest(key, keys) or '; known here: ' + join_names(keys)}"
