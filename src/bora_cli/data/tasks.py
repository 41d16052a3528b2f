"""The table of instructions, `meta/tasks.parquet`.

LeRobot reads it with pandas and expects the instruction as the index, which a Parquet file tells through
pandas' own entry in the schema's metadata.
"""

from __future__ import annotations

import json
from pathlib import Path

from bora_cli.data.files import Tracer, no_trace, write_table

_INDEX = "__index_level_0__"


def read_tasks(path: Path) -> dict[str, int]:
    """Return instruction -> task_index; empty if the file does not exist yet."""
    import pyarrow.parquet as pq

    if not path.exists():
        return {}
    table = pq.ParquetFile(path).read()
    return dict(zip(table[_INDEX].to_pylist(), table["task_index"].to_pylist(), strict=True))


def write_tasks(path: Path, tasks: dict[str, int], trace: Tracer = no_trace) -> None:
    """Write instruction -> task_index atomically."""
    import pyarrow as pa

    def column(name: str | None, field: str | None, pandas_type: str, numpy_type: str) -> dict[str, object]:
        return {
            "name": name,
            "field_name": field,
            "pandas_type": pandas_type,
            "numpy_type": numpy_type,
            "metadata": None,
        }

    pandas = {
        "index_columns": [_INDEX],
        "column_indexes": [column(None, None, "unicode", "object") | {"metadata": {"encoding": "UTF-8"}}],
        "columns": [
            column("task_index", "task_index", "int64", "int64"),
            column(None, _INDEX, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table(
        {"task_index": pa.array(tasks.values(), pa.int64()), _INDEX: pa.array(tasks, pa.string())}
    )
    write_table(path, table.replace_schema_metadata({"pandas": json.dumps(pandas)}), trace)
