"""Finds the files that an import names, and opens them whatever compresses them."""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa

STANDARD_INPUT = "-"
REJECTED_SUFFIX = ".rejected.csv"
COMPRESSIONS = {".gz", ".zst", ".bz2", ".xz", ".zip"}
DAMAGED = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowException,
    NotImplementedError,
)
"""What readers of compressed files raise."""


class UnreadableFile(ValueError):
    """A file cannot be read; the message names it and says what to do."""


def find_files(source: str) -> list[Path]:
    """The files of a name, a folder or a pattern such as `day-*.csv`, in order of their names.

    Hidden files and those whose names begin with an underscore, such as Spark's, belong to no folder of parts.

    Raises:
        UnreadableFile: there is none.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = (part for part in sorted(path.rglob("*")) if part.is_file())
        files = [part for part in inside if not any(name[0] in "._" for name in part.relative_to(path).parts)]
    else:
        files = [Path(name) for name in sorted(glob.glob(source, recursive=True)) if Path(name).is_file()]
    files = [file for file in files if not file.name.endswith(REJECTED_SUFFIX)]
    if not files:
        raise UnreadableFile(f"{source}: {'no file in this folder' if path.is_dir() else 'no such file'}")
    return files


def save_standard_input(folder: Path) -> Path:
    """Writes standard input into a file, since a file is read more than once."""
    path = folder / "standard-input"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def stem(path: Path) -> str:
    """The name of a file without the endings of its format and compression."""
    return Path(inner_name(path)).stem


def rejected_name(source: str) -> str:
    """The name of the file for the bad rows of a source."""
    name = "standard-input" if source == STANDARD_INPUT else stem(Path(source.rstrip("/"))) or "import"
    return re.sub(r"[^\w.-]+", "_", name) + REJECTED_SUFFIX


def inner_name(path: Path) -> str:
    """The name of a file without the ending of its compression."""
    return path.stem if path.suffix.lower() in COMPRESSIONS else path.name


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """A file's content, decompressed if its first bytes say so, and how many bytes of the file itself were read.

    Raises:
        UnreadableFile: it cannot be opened, is damaged, or a zip archive of more than one file.
    """
    try:
        with path.open("rb") as raw, _decompressed(path, raw) as content:
            yield content, raw.tell
    except DAMAGED as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged: {error}"
        raise UnreadableFile(f"{path}: {problem}") from None


@contextmanager
def _decompressed(path: Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    start = raw.read(8)
    raw.seek(0)
    if start.startswith(b"PK\x03\x04"):
        with _only_member(path, raw) as content:
            yield cast(BinaryIO, content)
        return
    for magic, reader in _READERS.items():
        if start.startswith(magic):
            with reader(raw) as content:
                yield cast(BinaryIO, content)
            return
    yield raw


def _zstd(raw: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw), "zstd"))


_READERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def _only_member(path: Path, raw: BinaryIO) -> IO[bytes]:
    archive = zipfile.ZipFile(raw)
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if "[Content_Types].xml" in names:
        raise UnreadableFile(f"{path}: an Excel workbook: save its sheet as CSV")
    if len(names) != 1:
        raise UnreadableFile(f"{path}: a zip archive of {len(names)} files: unpack it and import its folder")
    if archive.getinfo(names[0]).flag_bits & 1:
        raise UnreadableFile(f"{path}: a zip archive with a password: unpack it first")
    return archive.open(names[0])
