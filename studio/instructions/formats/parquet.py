"""Parquet: columns with types, read and written in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from studio.errors import InputError
from studio.instructions.formats.base import Format, Layout, Row, Source, as_text, check_columns, damaged, rejected

__all__ = ["Parquet", "schema_of", "table_of"]

_MAGIC = b"PAR1"
# Few at a time: a batch is held whole, and a cell may have megabytes.
_READ_ROWS = 64
_WRITE_ROWS = 1000
_LARGEST_GROUP = 4 << 30


class Parquet(Format):
    name = "parquet"
    title = "Parquet"
    suffixes = (".parquet",)
    rank = 10

    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        if not source.sample.startswith(_MAGIC):
            return None
        with _opened(source) as file:
            check_columns(source.name, file.schema_arrow.names)
            groups = (file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups))
            if max(groups, default=0) > _LARGEST_GROUP:
                raise InputError(
                    f"{source.name} has row groups of more than {_LARGEST_GROUP >> 30} GB, which would fill the memory. "
                    "Write it again with smaller ones (row_group_size)."
                )
        return Layout(format="parquet")

    def rows(self, source: Source, layout: Layout) -> Iterator[tuple[int, Row]]:
        begin = 0
        with _opened(source) as file:
            for group in range(file.metadata.num_row_groups):
                number = begin
                batches = file.iter_batches(_READ_ROWS, row_groups=[group], use_threads=False)
                try:
                    for batch in batches:
                        for row in batch.to_pylist():
                            number += 1
                            yield number, _checked(number, row)
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    begin += file.metadata.row_group(group).num_rows
                    reason = f"Rows {number + 1:,} to {begin:,} are damaged ({_first_line(error)}). Get the file whole."
                    yield number + 1, rejected(number + 1, "", reason)
                else:
                    begin = number

    def write(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]) -> None:
        schema = schema_of(columns)
        left = iter(rows)
        with pq.ParquetWriter(path, schema) as writer:
            while batch := list(islice(left, _WRITE_ROWS)):
                writer.write_table(table_of(batch, schema))


def schema_of(columns: Mapping[str, tuple[str, ...]]) -> pa.Schema:
    """Text, or a list of objects of texts, for each column."""
    return pa.schema([(name, _type_of(keys)) for name, keys in columns.items()])


def table_of(rows: list[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    texts = {field.name for field in schema if pa.types.is_string(field.type)}
    cells = [{n: as_text(row.get(n)) if n in texts else row.get(n) for n in schema.names} for row in rows]
    return pa.Table.from_pylist(cells, schema=schema)


def _type_of(keys: tuple[str, ...]) -> pa.DataType:
    return pa.list_(pa.struct([(key, pa.string()) for key in keys])) if keys else pa.string()


def _checked(number: int, row: dict[str, Any]) -> Row:
    for name, value in row.items():
        if isinstance(value, bytes):
            row[name] = as_text(value)
    if (column := damaged(row)) is not None:
        return rejected(number, column, "The cell holds bytes that are not text. Leave it out, or write it as text.")
    return row


@contextmanager
def _opened(source: Source) -> Iterator[pq.ParquetFile]:
    with source.local() as path:
        try:
            file = pq.ParquetFile(path, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{source.name} begins as a Parquet file but cannot be read ({_first_line(error)}). "
                "It may be cut off: get it whole, and upload it again."
            ) from error
        with file:
            yield file


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
