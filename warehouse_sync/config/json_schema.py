"""Build the JSON Schema of the configuration for editors. It describes YAML as users write it, with variables.

    python -m warehouse_sync.config.json_schema > docs/configuration.schema.json

Types, limits, defaults and descriptions come from the configuration objects. The rules between keys are added here.
The loader is stricter: it also refuses unknown warehouses, missing variables and the like.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Union

from pydantic import create_model

from warehouse_sync.config.destination_types import FIELD_SECTIONS, find_destination_types, known_field_names
from warehouse_sync.config.loader import Config

JsonSchema = dict[str, Any]

_VARIABLE = {"$ref": "#/$defs/variable"}

_KEYWORDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
"""JSON Schema's keywords for limits. Pydantic writes its own where a validator comes before the limit."""


def build_config_schema() -> JsonSchema:
    """Build the schema; a test requires that docs/configuration.schema.json equals it."""
    types = tuple(find_destination_types().values())
    entries = dict[str, Union[types]]  # type: ignore[valid-type]  # noqa: UP007 - the members are known at run time only
    destinations = Config.model_fields["destinations"]
    complete = create_model("Config", __base__=Config, __doc__=Config.__doc__, destinations=(entries, destinations))
    schema = _allow_variables(complete.model_json_schema())
    definitions = schema["$defs"]
    definitions["variable"] = {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}",
        "description": "Taken from the environment: ${NAME} or ${NAME:-default}",
    }
    entry_types = ("WarehouseConfig", "SyncConfig", "WebhookConfig", *(config.__name__ for config in types))
    for entry_type in entry_types:
        del definitions[entry_type]["properties"]["name"]
        definitions[entry_type]["required"].remove("name")
    definitions["ModelConfig"]["oneOf"] = [{"required": [key]} for key in ("sql", "file", "table")]
    definitions["AudienceConfig"]["oneOf"] = [
        {"required": ["name"]},
        {"required": ["id"], "properties": {"description": False}},
    ]
    for destination in find_destination_types().values():
        definitions[destination.__name__].update(destination.json_schema_rules)
    definitions["ScheduleConfig"]["oneOf"] = [
        {"required": ["every"]},
        {"required": ["cron"], "properties": {"at": False}},
    ]
    definitions["SyncConfig"]["allOf"] = [
        _restrict_fields(audience_type) for audience_type in known_field_names("identifiers")
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "warehouse-sync configuration",
        **schema,
    }


def _restrict_fields(audience_type: str) -> JsonSchema:
    """Return the rule that audiences of one type have exactly its identifiers and fields."""
    return {
        "if": {
            "required": ["audience"],
            "properties": {"audience": {"required": ["type"], "properties": {"type": {"const": audience_type}}}},
        },
        "then": {
            "properties": {
                section: {
                    "properties": dict.fromkeys(known_field_names(section)[audience_type], True),
                    "additionalProperties": False,
                }
                for section in FIELD_SECTIONS
            }
        },
    }


def _allow_variables(schema: JsonSchema) -> JsonSchema:
    """Return a schema that also allows a variable in place of every scalar that is not any text already.

    Null is removed from the alternatives: users leave a key out instead.
    """
    alternatives = [inner for inner in schema.get("anyOf", ()) if inner.get("type") != "null"]
    if len(alternatives) == 1:
        return _allow_variables({**alternatives[0], **{key: value for key, value in schema.items() if key != "anyOf"}})
    result: JsonSchema = {}
    for key, value in schema.items():
        if key in ("$defs", "properties"):
            result[key] = {name: _allow_variables(inner) for name, inner in value.items()}
        elif key in ("additionalProperties", "items") and isinstance(value, dict):
            result[key] = _allow_variables(value)
        elif key == "anyOf":
            result[key] = alternatives
            if not any(_accepts_any_text(inner) for inner in alternatives):
                result[key].append(_VARIABLE)
        elif key != "title" and (key, value) != ("default", None):
            result[_KEYWORDS.get(key, key)] = value
    if schema.get("type") in ("integer", "number", "boolean", "string") and not _accepts_any_text(schema):
        outer: JsonSchema = {key: result.pop(key) for key in ("description", "default") if key in result}
        return {**outer, "anyOf": [result, _VARIABLE]}
    return result


def _accepts_any_text(schema: JsonSchema) -> bool:
    """Return whether the schema already allows a text such as `${NAME}`."""
    if "$ref" in schema:
        return True
    return schema.get("type") == "string" and not {"pattern", "enum", "const"} & set(schema)


if __name__ == "__main__":
    json.dump(build_config_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
