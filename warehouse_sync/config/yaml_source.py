"""YAML files to plain values that remember where they stand; nothing here knows what a key means.

Variables are filled in, a folder's files are merged, and whatever is wrong is collected as a Problem, never raised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from warehouse_sync.config.files import Unreadable, noted, read_text
from warehouse_sync.errors import Problem
from warehouse_sync.redaction import redact

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a configuration down to one value."""

MAX_VALUES = 50_000
"""Values that one file may hold once its aliases are followed; aliases of aliases grow without bound."""

_VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?")
_PLAIN_KEY = re.compile(r"[\w-]+")
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "value"))


def dotted(path: KeyPath) -> str:
    """A path as it stands in messages: `syncs.customers.model.primary_key[1]`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False))
    return text


@dataclass
class Document:
    """One file: its value, the line of every key, and what is wrong with it.

    failed: paths whose value could not be made out; what is said of them later would only repeat it.
    """

    file: Path
    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    failed: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath) -> int | None:
        """The line of `path`, or of the nearest key above it that stands in the file."""
        return next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), None)

    def place(self, path: KeyPath) -> str:
        """File and line of `path`, as messages name them."""
        return f"{self.file}:{self.line(path)}"

    def add(self, message: str, path: KeyPath = (), line: int | None = None) -> None:
        """Note a problem; it is left out when the value at or above `path` has one already."""
        if not any(path[:end] in self.failed for end in range(len(path) + 1)):
            line = self.line(path) if line is None else line
            self.problems.append(Problem(redact(message), str(self.file), line, redact(dotted(path)) or None))


@dataclass(frozen=True, slots=True)
class Entry:
    """One named entry of a section, and the file that holds it."""

    value: Any
    document: Document


Sections = dict[str, dict[str, Entry]]


def read_documents(path: Path, environ: Mapping[str, str]) -> list[Document]:
    """The file at `path`, or the *.yaml and *.yml files directly in the folder, by name. Never raises."""
    noted(path)
    try:
        is_folder = path.is_dir()
        files = sorted(_yaml_files(path)) if is_folder else [path]
    except (OSError, ValueError):
        is_folder, files = False, [path]
    if is_folder and not files:
        document = Document(path)
        document.add("the folder holds no *.yaml or *.yml file")
        return [document]
    return [_Reader(Document(file), environ).read() for file in files]


def _yaml_files(folder: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        if file.suffix in (".yaml", ".yml") and not file.name.startswith(".") and not file.is_dir():
            yield file


def merge(documents: Sequence[Document], sections: Sequence[str], unknown: str) -> Sections:
    """The entries of each section over all files; a name that two files define is a problem of the second.

    `unknown` is what is said of a top-level key outside `sections`.
    """
    merged: Sections = {section: {} for section in sections}
    for document in documents:
        for section, entries in (document.value or {}).items():
            if section not in merged:
                document.add(unknown, (section,))
            elif isinstance(entries, dict):
                for name, value in entries.items():
                    first = merged[section].get(name)
                    if first is None:
                        merged[section][name] = Entry(value, document)
                    else:
                        place = first.document.place((section, name))
                        document.add(f"defined twice, first at {place}", (section, name))
            elif entries is not None:
                document.add("a mapping of names to their settings is expected here", (section,))
    return merged


class _Reader:
    """Turns one file into its Document."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.document = document
        self.environ = environ
        self.visited = 0
        self.above: list[yaml.Node] = []
        self.scalars = yaml.constructor.SafeConstructor()

    def read(self) -> Document:
        document = self.document
        try:
            text = read_text(document.file)
        except Unreadable as error:
            document.add(f"the file {error}")
            return document
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            if node is None:
                document.add("the file is empty")
            elif not isinstance(node, yaml.MappingNode):
                document.add("the top level must be a mapping (warehouses:, destinations:, syncs:)", line=_line(node))
            else:
                document.value = self.convert(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = ", ".join(part for part in (error.context, error.problem) if part)
            if error.context and "flow" in error.context and "${" in text:
                why += '; between { } or [ ] a variable stands in quotes: "${NAME}"'
            document.add(f"not YAML: {why}", line=mark.line + 1 if mark else None)
        except yaml.reader.ReaderError as error:
            document.add("not YAML: a control character stands here", line=text.count("\n", 0, error.position) + 1)
        except _TooMuch as error:
            document.add(str(error))
        except RecursionError:
            document.add("not YAML that can be read: nested too deeply")
        except (yaml.YAMLError, ValueError, OverflowError, LookupError) as error:
            # PyYAML lets a few of its own slip through, such as chr() refusing the escape "\U00110000".
            document.add(f"not YAML: {type(error).__name__} in an escape, a number or a directive")
        return document

    def convert(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count()
        if node in self.above:
            return self.fail("an alias stands inside what it refers to", path)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        self.above.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self.item(inner, (*path, index)) for index, inner in enumerate(node.value)]
        finally:
            self.above.pop()
        return self.fail(f"the tag {node.tag} is not allowed", path)

    def count(self) -> None:
        self.visited += 1
        if self.visited > MAX_VALUES:
            raise _TooMuch(f"more than {MAX_VALUES} values, counting what aliases repeat")

    def item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.lines[path] = _line(node)
        return self.convert(node, path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in self.pairs(node, path, report=True):
            pairs.setdefault(key.value, (key, value))
        self.document.lines.update({(*path, name): _line(key) for name, (key, _) in pairs.items()})
        return {name: self.convert(value, (*path, name)) for name, (_, value) in pairs.items()}

    def pairs(self, node: yaml.MappingNode, path: KeyPath, *, report: bool) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Own keys first, then those that `<<` brings in, the first of a list before the second."""
        seen: dict[str, int] = {}
        brought: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                brought += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif not isinstance(key, yaml.ScalarNode) or not _encodable(key.value):
                if report:
                    self.document.add("a key must be plain text", path, _line(key))
            elif key.value in seen:
                if report:
                    place = f"{self.document.file}:{seen[key.value]}"
                    self.document.add(f"defined twice, first at {place}", (*path, key.value), _line(key))
            else:
                seen[key.value] = _line(key)
                yield key, value
        for mapping in brought:
            self.count()
            if not isinstance(mapping, yaml.MappingNode) or mapping in self.above:
                self.document.add("<< must name a mapping that stands outside of this one", path)
                continue
            self.above.append(mapping)
            yield from self.pairs(mapping, path, report=False)
            self.above.pop()

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if node.tag not in _SCALARS:
            return self.fail(f"the tag {node.tag} is not allowed", path)
        if node.tag in (_TAG + "str", _TAG + "value"):
            return self.substitute(node.value, path)
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError, TypeError):
            return self.fail(f"this is not a {node.tag.removeprefix(_TAG)}; text belongs in quotes", path)

    def substitute(self, text: str, path: KeyPath) -> str:
        """`${NAME}` and `${NAME:-default}` from the environment (a default stands in for an empty value too)."""

        def value_of(found: re.Match[str]) -> str:
            name, default = found.groups()
            if found[0] == "$${":
                return "${"
            if name is None:
                wrong.append("`${` opens no variable such as ${NAME} or ${NAME:-default}; write `$${` for a plain `${`")
                return ""
            value = self.environ.get(name)
            if default is not None:
                return value or str(default)
            if value is None:
                wrong.append(f"the environment variable {name} is not set")
            return value or ""

        wrong: list[str] = []
        filled = _VARIABLE.sub(value_of, text)
        if not wrong and not _encodable(filled):
            wrong.append("this is not valid Unicode text")
        return self.fail("; ".join(dict.fromkeys(wrong)), path) if wrong else filled

    def fail(self, message: str, path: KeyPath) -> str:
        self.document.add(message, path)
        self.document.failed.add(path)
        return ""


class _TooMuch(Exception):
    """Following the aliases of a file leads too far."""


def _encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
