import made_up
import numpy as np
import polars as pl
import pytest

from bora_cli.analysis.traces import (
    SCHEMA,
    EpisodeTrace,
    autonomous,
    build_traces,
    check_traces,
    outcomes,
    read_traces,
    write_traces,
)
from bora_cli.errors import DataError, SchemaMismatch


def test_one_row_per_tick_with_time_from_both_ends():
    table = build_traces(
        [
            EpisodeTrace(v=[0.1, 0.2, 0.3], success=True, controller=[0, 1, 0], task="a"),
            EpisodeTrace(v=[0.5], success=False, controller=[4], task="a"),
        ]
    )
    assert dict(table.schema) == SCHEMA
    assert table["t_norm"].to_list() == [0, 0.5, 1, 0]
    assert table["ticks_to_end"].to_list() == [2, 1, 0, 0]
    assert table["intervened"].to_list() == [False, True, False, False]
    assert table["q"].is_nan().all()
    assert outcomes(table)["success"].to_list() == [True, False]


def test_autonomous_drops_whole_episodes():
    table = made_up.traces(12)
    kept = autonomous(table)
    assert outcomes(kept)["episode"].to_list() == [e for e in range(12) if e % 6]
    assert not kept["intervened"].any()


def test_round_trip(tmp_path):
    table = made_up.traces(4)
    write_traces(tmp_path / "deep" / "traces.parquet", table)
    assert read_traces(tmp_path / "deep" / "traces.parquet").equals(table)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["traces.parquet"]


def test_reading_nothing_or_rubbish(tmp_path):
    with pytest.raises(DataError, match=r"no trace table at .* Run `bora analyze`"):
        read_traces(tmp_path / "traces.parquet")
    (tmp_path / "traces.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_traces(tmp_path / "traces.parquet")


def test_building_refuses_bad_episodes():
    with pytest.raises(DataError, match="no episode to trace"):
        build_traces([])
    with pytest.raises(DataError, match=r"3 values of v but controller \(2,\)"):
        build_traces([EpisodeTrace(v=np.zeros(3), success=True, controller=[0, 0])])
    with pytest.raises(DataError, match=r"shape \(0,\)"):
        build_traces([EpisodeTrace(v=[], success=True, controller=[])])
    with pytest.raises(DataError, match=r"V is not finite at tick 1 of episode 0 \(1 ticks"):
        build_traces([EpisodeTrace(v=[0, np.nan], success=True, controller=[0, 0])])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.drop("q", "v"), SchemaMismatch, "lacks the columns v, q"),
        (
            lambda t: t.with_columns(pl.col("v").cast(pl.Float64)),
            SchemaMismatch,
            "v is Float64, expected Float32",
        ),
        (lambda t: t.clear(), DataError, "is empty"),
        (lambda t: t.filter(pl.col("tick") != 3), DataError, "missing or disordered ticks"),
        (lambda t: t.with_columns(success=pl.col("tick") == 0), DataError, "two outcomes"),
        (lambda t: t.with_columns(v=pl.lit(None, pl.Float32)), DataError, "not finite"),
    ],
)
def test_checking_refuses_unsound_tables(change, error, message):
    with pytest.raises(error, match=message):
        check_traces(change(made_up.traces(4)))
