"""Read YAML files into plain values and the line of each; nothing here knows what a key means.

Variables are replaced and the files of a folder merged. Errors are collected as problems and never raised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from warehouse_sync.config.files import UnreadableFile, read_text, record_file
from warehouse_sync.errors import Problem
from warehouse_sync.redaction import redact

KeyPath = tuple[str | int, ...]
"""The keys and list positions that lead from the top of a configuration to one value."""

MAX_VALUES = 50_000
"""The most values of one file, counting what aliases repeat: aliases of aliases grow without limit."""

_VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?")
_PLAIN_KEY = re.compile(r"[\w-]+")
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "value"))


def format_path(path: KeyPath) -> str:
    """Return a path as messages show it: `syncs.customers.model.primary_key[1]`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False))
    return text


@dataclass
class Document:
    """The content of one YAML file.

    Attributes:
        file: The file.
        value: The value at the top level; None if it could not be read.
        lines: The line of every key and list item, counted from 1.
        failed_paths: Paths whose value could not be read. Later problems there would be consequences only.
        problems: What is wrong in the file.
    """

    file: Path
    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    failed_paths: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line of `path`, or of the nearest key above it that the file contains."""
        return next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), None)

    def location(self, path: KeyPath) -> str:
        """Return file and line of `path`, as messages show them."""
        return f"{self.file}:{self.line_of(path)}"

    def add_problem(self, message: str, path: KeyPath = (), line: int | None = None) -> None:
        """Add a problem, unless the value at or above `path` could not be read."""
        if not any(path[:end] in self.failed_paths for end in range(len(path) + 1)):
            line = self.line_of(path) if line is None else line
            self.problems.append(Problem(redact(message), str(self.file), line, redact(format_path(path)) or None))


@dataclass(frozen=True, slots=True)
class Entry:
    """One named entry of a section.

    Attributes:
        value: What is written there.
        document: The file that contains it.
    """

    value: Any
    document: Document


Sections = dict[str, dict[str, Entry]]
"""The entries of each section, by name."""


def read_documents(path: Path, environ: Mapping[str, str]) -> list[Document]:
    """Read a file, or the *.yaml and *.yml files directly in a folder in the order of their names. Never raises.

    Args:
        path: The file or folder.
        environ: The variables that `${NAME}` refers to.
    """
    record_file(path)
    try:
        is_folder = path.is_dir()
        files = sorted(_list_yaml_files(path)) if is_folder else [path]
    except (OSError, ValueError):
        is_folder, files = False, [path]
    if is_folder and not files:
        document = Document(path)
        document.add_problem("the folder contains no *.yaml or *.yml file")
        return [document]
    return [_DocumentReader(Document(file), environ).read() for file in files]


def _list_yaml_files(folder: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        if file.suffix in (".yaml", ".yml") and not file.name.startswith(".") and not file.is_dir():
            yield file


def merge_sections(documents: Sequence[Document], sections: Sequence[str], unknown_section_message: str) -> Sections:
    """Return the entries of each section in all files. A name that two files define is a problem of the second.

    Args:
        documents: The files.
        sections: The known top-level keys.
        unknown_section_message: The message about any other top-level key.
    """
    merged: Sections = {section: {} for section in sections}
    for document in documents:
        for section, entries in (document.value or {}).items():
            if section not in merged:
                document.add_problem(unknown_section_message, (section,))
            elif isinstance(entries, dict):
                for name, value in entries.items():
                    first = merged[section].get(name)
                    if first is None:
                        merged[section][name] = Entry(value, document)
                    else:
                        place = first.document.location((section, name))
                        document.add_problem(f"defined twice, first at {place}", (section, name))
            elif entries is not None:
                document.add_problem("a mapping of names to their settings is expected here", (section,))
    return merged


class _DocumentReader:
    """Reads one file into its document."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.document = document
        self.environ = environ
        self.value_count = 0
        self.open_nodes: list[yaml.Node] = []
        self.scalar_constructor = yaml.constructor.SafeConstructor()

    def read(self) -> Document:
        document = self.document
        try:
            text = read_text(document.file)
        except UnreadableFile as error:
            document.add_problem(f"the file {error}")
            return document
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            if node is None:
                document.add_problem("the file is empty")
            elif not isinstance(node, yaml.MappingNode):
                document.add_problem(
                    "the top level must be a mapping (warehouses:, destinations:, syncs:)", line=_line_number(node)
                )
            else:
                document.value = self.convert(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = ", ".join(part for part in (error.context, error.problem) if part)
            if error.context and "flow" in error.context and "${" in text:
                why += '; between { } or [ ] put a variable in quotes: "${NAME}"'
            document.add_problem(f"not YAML: {why}", line=mark.line + 1 if mark else None)
        except yaml.reader.ReaderError as error:
            document.add_problem(
                "not YAML: there is a control character here", line=text.count("\n", 0, error.position) + 1
            )
        except _TooManyValues as error:
            document.add_problem(str(error))
        except RecursionError:
            document.add_problem("not YAML that can be read: nested too deeply")
        except (yaml.YAMLError, ValueError, OverflowError, LookupError) as error:
            # PyYAML does not catch all errors, such as that of chr() for the escape "\U00110000".
            document.add_problem(f"not YAML: {type(error).__name__} in an escape, a number or a directive")
        return document

    def convert(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count_value()
        if node in self.open_nodes:
            return self.fail_value("an alias is part of the value that it refers to", path)
        if isinstance(node, yaml.ScalarNode):
            return self.convert_scalar(node, path)
        self.open_nodes.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self.convert_mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self.convert_item(inner, (*path, index)) for index, inner in enumerate(node.value)]
        finally:
            self.open_nodes.pop()
        return self.fail_value(f"the tag {node.tag} is not allowed", path)

    def count_value(self) -> None:
        self.value_count += 1
        if self.value_count > MAX_VALUES:
            raise _TooManyValues(f"more than {MAX_VALUES} values, counting what aliases repeat")

    def convert_item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.lines[path] = _line_number(node)
        return self.convert(node, path)

    def convert_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in self.iterate_pairs(node, path, report_problems=True):
            pairs.setdefault(key.value, (key, value))
        self.document.lines.update({(*path, name): _line_number(key) for name, (key, _) in pairs.items()})
        return {name: self.convert(value, (*path, name)) for name, (_, value) in pairs.items()}

    def iterate_pairs(
        self, node: yaml.MappingNode, path: KeyPath, *, report_problems: bool
    ) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Yield the mapping's own keys, then those that `<<` merges, the first mapping of a list before the second."""
        seen: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif not isinstance(key, yaml.ScalarNode) or not _is_encodable(key.value):
                if report_problems:
                    self.document.add_problem("a key must be plain text", path, _line_number(key))
            elif key.value in seen:
                if report_problems:
                    place = f"{self.document.file}:{seen[key.value]}"
                    self.document.add_problem(f"defined twice, first at {place}", (*path, key.value), _line_number(key))
            else:
                seen[key.value] = _line_number(key)
                yield key, value
        for mapping in merged:
            self.count_value()
            if not isinstance(mapping, yaml.MappingNode) or mapping in self.open_nodes:
                self.document.add_problem("<< must name a mapping outside of this one", path)
                continue
            self.open_nodes.append(mapping)
            yield from self.iterate_pairs(mapping, path, report_problems=False)
            self.open_nodes.pop()

    def convert_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if node.tag not in _SCALARS:
            return self.fail_value(f"the tag {node.tag} is not allowed", path)
        if node.tag in (_TAG + "str", _TAG + "value"):
            return self.substitute_variables(node.value, path)
        try:
            return self.scalar_constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError, TypeError):
            return self.fail_value(f"this is not a {node.tag.removeprefix(_TAG)}; text belongs in quotes", path)

    def substitute_variables(self, text: str, path: KeyPath) -> str:
        """Replace `${NAME}` and `${NAME:-default}`; a default also replaces an empty value."""

        def value_of(found: re.Match[str]) -> str:
            name, default = found.groups()
            if found[0] == "$${":
                return "${"
            if name is None:
                errors.append(
                    "`${` does not begin a variable such as ${NAME} or ${NAME:-default}; write `$${` for a plain `${`"
                )
                return ""
            value = self.environ.get(name)
            if default is not None:
                return value or str(default)
            if value is None:
                errors.append(f"the environment variable {name} is not set")
            return value or ""

        errors: list[str] = []
        filled = _VARIABLE.sub(value_of, text)
        if not errors and not _is_encodable(filled):
            errors.append("this is not valid Unicode text")
        return self.fail_value("; ".join(dict.fromkeys(errors)), path) if errors else filled

    def fail_value(self, message: str, path: KeyPath) -> str:
        self.document.add_problem(message, path)
        self.document.failed_paths.add(path)
        return ""


class _TooManyValues(Exception):
    """A file has more than MAX_VALUES values."""


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _line_number(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
