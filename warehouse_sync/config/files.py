"""Read the files of a configuration as text, and record which files those are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

MAX_BYTES = 5_000_000


class UnreadableFile(ValueError):
    """A file cannot be read as text; `str()` says why, in words that continue a sentence after the file's name."""


_recorder: ContextVar[Callable[[Path], object]] = ContextVar("recorder", default=lambda _path: None)


@contextmanager
def record_files(record: Callable[[Path], object]) -> Iterator[None]:
    """Call `record` with each file before it is read within the block, and with each folder before it is searched."""
    token = _recorder.set(record)
    try:
        yield
    finally:
        _recorder.reset(token)


def record_file(path: Path) -> None:
    """Report to the current `record_files` that this file or folder is about to be read."""
    _recorder.get()(path)


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file, without a byte order mark.

    Raises:
        UnreadableFile: The file cannot be read, is too large or is not text.
    """
    record_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableFile("does not exist") from None
    except IsADirectoryError:
        raise UnreadableFile("is a folder, not a file") from None
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {(error.strerror or type(error).__name__).lower()}") from None
    except ValueError:
        raise UnreadableFile("is not the name of a file") from None
    if len(content) > MAX_BYTES:
        raise UnreadableFile(f"is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableFile("is not text in UTF-8") from None
