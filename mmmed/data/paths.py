"""Paths in a table are data from outside: they may lead to files of the cohort's folder and nowhere else.

Also here, because every reader needs them: the words that say where a problem is, and the net around
decoders.
"""

from __future__ import annotations

import ntpath
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmmed.checks import MissingFile, UnreadableFile, UnsafePath, plain


def place(where: str, name: object) -> str:
    """The subject of an error message: 'record "a1", column "image": images/a1.png'."""
    return f"{where}: {name}" if where else str(name)


def resolve(path: str | os.PathLike[str], folder: str | os.PathLike[str] | None, where: str = "") -> Path:
    """The real place of a file that a table names, certain to lie inside `folder`.

    path: relative to `folder` (None = current directory); `..` and symbolic links may be in it as long as
    they stay inside. folder: may itself be a symbolic link. where: 'record "a1", column "image"', for
    messages.

    Raises UnsafePath if the path is absolute, leaves the folder or holds a NUL byte; MissingFile if nothing
    is there; UnreadableFile if what is there is no regular file (a directory, a pipe).
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise UnsafePath(f"{place(where, plain(text))} should be a path as text, got {type(text).__name__}.")
    if not text.strip():
        raise MissingFile(f"{place(where, 'the path')} is empty. Leave the cell empty if there is no file.")
    _check_text(text, where)
    base = os.path.realpath(os.curdir if folder is None else folder)
    real = os.path.realpath(os.path.join(base, text))
    # Before asking whether the file exists: the answer must not tell anything about files outside.
    if os.path.commonpath([base, real]) != base:
        raise UnsafePath(
            f"{place(where, plain(text))} leads out of the folder {base} (by '..' or by a symbolic link). "
            "Put the file inside that folder, or name a folder that holds all files."
        )
    _check_regular(real, text, base, where)
    return Path(real)


def _check_text(text: str, where: str) -> None:
    if "\0" in text:
        raise UnsafePath(f"{place(where, plain(text))} holds a NUL byte, which no file name can. Correct it.")
    # Tables travel between systems: a drive letter is absolute wherever the table is read.
    if os.path.isabs(text) or ntpath.isabs(text):
        raise UnsafePath(
            f"{place(where, plain(text))} is an absolute path. Write it relative to the folder of the "
            "cohort, and give that folder as folder=."
        )
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise UnsafePath(
            f"{place(where, plain(text))} holds a character no file name can. Correct it."
        ) from error


def _check_regular(real: str, text: str, base: str, where: str) -> None:
    subject = place(where, plain(text, 120))
    try:
        mode = os.stat(real).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile(f"{subject}: no such file in {base}. {_advice(text)}") from error
    except OSError as error:  # a loop of links, a name too long, a folder that may not be entered
        raise UnreadableFile(f"{subject} cannot be reached in {base}: {error.strerror}.") from error
    if stat.S_ISDIR(mode):
        raise UnreadableFile(f"{subject} is a directory. Name one file in it.")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise UnreadableFile(f"{subject} is no regular file (a pipe, a socket or a device). Name a file.")


def _advice(text: str) -> str:
    if "://" in text:
        return "Addresses are not fetched: download the file and write its path."
    if "\\" in text and os.sep == "/":
        return "Write the path with forward slashes."
    return 'Correct the path, leave the cell empty, or pass missing_files="absent".'


@contextmanager
def reading(subject: str, advice: str = "Copy it again from its source.") -> Iterator[None]:
    """Turn whatever a decoder raises into one UnreadableFile that names the file.

    Decoders meet hostile bytes and raise nearly anything (struct.error, KeyError, zlib.error, OverflowError
    ...), so this is the one place that catches broadly. Keep nothing but calls of decoders inside.
    """
    try:
        yield
    except (UnreadableFile, ImportError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        reason = reason if len(reason) <= 240 else reason[:237] + "..."
        raise UnreadableFile(
            f"{subject} cannot be read: it is damaged, cut off or of an unknown kind "
            f"({reason.rstrip('.')}). {advice}"
        ) from error
