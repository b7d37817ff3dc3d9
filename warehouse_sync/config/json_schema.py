"""The JSON Schema of the configuration, for editors: as users write YAML, before variables and files are filled in.

    python -m warehouse_sync.schema > docs/configuration.schema.json

Types, limits, defaults and descriptions come from the objects in config.py; what JSON Schema cannot learn from them,
rules between keys, is added here. The loader is the judge: it refuses more (unknown warehouses, missing variables).
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
"""Limits that pydantic leaves in its own words where a validator stands before them."""


def build_config_schema() -> JsonSchema:
    """Build the schema anew; equal to docs/configuration.schema.json, which a test holds to."""
    types = tuple(find_destination_types().values())
    entries = dict[str, Union[types]]  # type: ignore[valid-type]  # noqa: UP007 - the members are known at run time only
    destinations = Config.model_fields["destinations"]
    complete = create_model("Config", __base__=Config, __doc__=Config.__doc__, destinations=(entries, destinations))
    schema = _allow_variables(complete.model_json_schema())
    parts = schema["$defs"]
    parts["variable"] = {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}",
        "description": "Taken from the environment: ${NAME} or ${NAME:-default}",
    }
    entry_types = ("WarehouseConfig", "SyncConfig", "WebhookConfig", *(config.__name__ for config in types))
    for named in entry_types:
        del parts[named]["properties"]["name"]
        parts[named]["required"].remove("name")
    parts["ModelConfig"]["oneOf"] = [{"required": [key]} for key in ("sql", "file", "table")]
    parts["AudienceConfig"]["oneOf"] = [
        {"required": ["name"]},
        {"required": ["id"], "properties": {"description": False}},
    ]
    for destination in find_destination_types().values():
        parts[destination.__name__].update(destination.json_schema_rules)
    parts["ScheduleConfig"]["oneOf"] = [{"required": ["every"]}, {"required": ["cron"], "properties": {"at": False}}]
    parts["SyncConfig"]["allOf"] = [
        _restrict_fields(audience_type) for audience_type in known_field_names("identifiers")
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "warehouse-sync configuration",
        **schema,
    }


def _restrict_fields(audience_type: str) -> JsonSchema:
    """For audiences of one type, exactly its identifiers and fields."""
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
    """`schema` and all below it, with a variable in place of any scalar that is not free text anyway.

    A key is left out rather than null, so null is not offered.
    """
    kinds = [inner for inner in schema.get("anyOf", ()) if inner.get("type") != "null"]
    if len(kinds) == 1:
        return _allow_variables({**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}})
    result: JsonSchema = {}
    for key, value in schema.items():
        if key in ("$defs", "properties"):
            result[key] = {name: _allow_variables(inner) for name, inner in value.items()}
        elif key in ("additionalProperties", "items") and isinstance(value, dict):
            result[key] = _allow_variables(value)
        elif key == "anyOf":
            result[key] = kinds
            if not any(_accepts_any_text(inner) for inner in kinds):
                result[key].append(_VARIABLE)
        elif key != "title" and (key, value) != ("default", None):
            result[_KEYWORDS.get(key, key)] = value
    if schema.get("type") in ("integer", "number", "boolean", "string") and not _accepts_any_text(schema):
        outer: JsonSchema = {key: result.pop(key) for key in ("description", "default") if key in result}
        return {**outer, "anyOf": [result, _VARIABLE]}
    return result


def _accepts_any_text(schema: JsonSchema) -> bool:
    """Whether a text such as `${NAME}` passes as it is."""
    if "$ref" in schema:
        return True
    return schema.get("type") == "string" and not {"pattern", "enum", "const"} & set(schema)


if __name__ == "__main__":
    json.dump(build_config_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
