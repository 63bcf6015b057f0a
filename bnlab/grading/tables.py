"""Read CSV files as spreadsheets, Canvas and Moodle write them, or say at which line they are none."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DELIMITERS = (",", ";", "\t")


class TableError(ValueError):
    """A file is no table as expected: where, and what to do."""


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes
    ----------
    header : list of str
        The first line.
    rows : list of (int, list of str)
        The others, each with the number of the line at which it begins. Empty lines are left out.
    delimiter : str
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]
    delimiter: str


def read_table(path: Path) -> Table:
    """Read a CSV file: in UTF-8, with or without a byte order mark, or UTF-16; with commas, semicolons or tabs.

    Raises
    ------
    TableError
        It can't be read, or is no CSV file.
    """
    text = _decode(path)
    # The header decides: names of columns have no commas in them, numbers below may.
    delimiter = max(DELIMITERS, key=lambda mark: len(next(_reader(text, mark, strict=False), [])))
    rows = [(line, row) for line, row in _rows(_reader(text, delimiter), path.name) if any(map(str.strip, row))]
    if not rows:
        raise TableError(f"{path.name} is empty, expected the names of columns and below them a line for each student")
    return Table(rows[0][1], rows[1:], delimiter)


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read ({error.strerror}): check the name") from None
    if data.startswith(b"PK"):
        raise TableError(f"{path.name} is a workbook or a zip archive, expected CSV: save it as 'CSV UTF-8'")
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TableError(f"{path.name}, line {line}: not text in UTF-8: save it as 'CSV UTF-8'") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(f"{path.name}, line {line}: a zero byte, so it is no CSV file: save it as 'CSV UTF-8'")
    return text


def _reader(text: str, delimiter: str, strict: bool = True) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)


def _rows(reader: Iterator[list[str]], name: str) -> Iterator[tuple[int, list[str]]]:
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TableError(
                f"{name}, line {line}: not CSV ({error}): look for a quotation mark too few or too many"
            ) from None
        yield line, row
