"""The swap table says what a critic thinks of other chunks; a critic that ignores actions is caught by it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bora_cli.analysis import swap_figures, swaps
from bora_cli.analysis.critic_tests import action_sensitivity, bad_chunks, swap_test
from bora_cli.analysis.style import png
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.types import ActionSpec

SPEC = ActionSpec(
    ("dx", "dy", "thumb_1", "thumb_2", "index_1"),
    ("m", "m", "rad", "rad", "rad"),
    np.full(5, -1, np.float32),
    np.full(5, 1, np.float32),
    {"arm": (0, 2), "hand": (2, 5)},
)


def chunks(n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return chunks [n, 4, 5] around +0.5, and the episode and tick of each."""
    rng = np.random.default_rng(0)
    values = (0.5 + 0.2 * rng.standard_normal((n, 4, 5))).clip(-1, 1).astype(np.float32)
    return values, np.arange(n) // 3, np.arange(n) % 3 * 4


def table(score) -> pl.DataFrame:
    values, episodes, ticks = chunks()
    return swaps.swap_table(values, episodes, ticks, SPEC, score, rng=np.random.default_rng(1))


def listens(values):
    """Prefer what is near +0.5; certain by 0.1."""
    q = -np.abs(values - 0.5).mean((1, 2))
    return q, np.full(len(q), 0.1, np.float32)


def ignores(values):
    """Score the state alone: every chunk of a state gets the same."""
    return np.linspace(0, 1, len(values)), np.zeros(len(values))


def test_a_critic_that_ignores_actions_is_caught():
    found = swaps.wins(table(ignores))
    assert found["n"].min() > 0
    assert set(found["win_rate"]) == {0.5}
    assert set(found["drop"]) == {0.0}
    values, episodes, _ = chunks()
    rng = np.random.default_rng(0)
    bad = {k: ignores(c)[0] for k, c in bad_chunks(values, episodes, SPEC, rng=rng).items()}
    scores = swap_test(ignores(values)[0], bad, episodes, rng=rng)
    assert {(s.win_rate, s.lo, s.hi) for s in scores} == {(0.5, 0.5, 0.5)}
    deaf = action_sensitivity(np.stack([ignores(values)[0]] * 4, axis=1), episodes, rng=rng)
    assert (deaf.value, deaf.hi) == pytest.approx((0, 0))


def test_a_critic_that_listens_passes():
    found = swaps.wins(table(listens))
    flipped = found.filter(pl.col("kind") == "flipped_xyz")
    assert flipped["win_rate"][0] == 1
    assert flipped["drop"][0] > 0.1


def test_every_dimension_and_every_finger_is_offset_within_the_limits():
    made = table(listens)
    assert dict(made.schema) == swaps.SCHEMA
    assert swaps.parts(SPEC)["whole thumb"] == [2, 3]
    assert "whole index" not in swaps.parts(SPEC)
    sweep = made.filter(pl.col("kind") == "part")
    assert set(sweep["part"]) == {*SPEC.names, "whole thumb"}
    assert tuple(sweep["offset"].unique().sort().cast(pl.Float64).round(1)) == swaps.OFFSETS
    middle = sweep.filter(pl.col("offset") == 0)
    executed = made.filter(pl.col("kind") == "executed")
    joined = middle.join(executed, on=["episode", "tick"])
    assert (joined["q"] == joined["q_right"]).all()
    assert not middle["differs"].any()


def test_one_state_is_found_by_the_nearest_tick():
    made = table(listens)
    assert set(swaps.state(made, 1, 5)["tick"]) == {4}
    with pytest.raises(DataError, match="No chunk of episode 9 was swapped"):
        swaps.state(made, 9, 0)


def test_there_must_be_a_state():
    with pytest.raises(DataError, match="no state to swap chunks in"):
        swaps.swap_table(
            np.zeros((0, 4, 5), np.float32),
            np.zeros(0, int),
            np.zeros(0, int),
            SPEC,
            listens,
            rng=np.random.default_rng(0),
        )


def test_the_table_is_read_back_or_refused(tmp_path):
    file = tmp_path / "swaps.parquet"
    with pytest.raises(DataError, match="There is no swap table"):
        swaps.read_swaps(file)
    file.write_bytes(b"torn")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        swaps.read_swaps(file)
    pl.DataFrame({"a": [1]}).write_parquet(file)
    with pytest.raises(SchemaMismatch, match="has the columns a; expected episode"):
        swaps.read_swaps(file)
    table(listens).write_parquet(file)
    assert swaps.read_swaps(file).equals(table(listens))


def test_figures_of_a_state():
    state = swaps.state(table(listens), 0, 0)
    assert png(swap_figures.chunk_swaps(state, marked="reversed")).startswith(b"\x89PNG")
    assert png(swap_figures.part_sweep(state, "whole thumb", 0.3)).startswith(b"\x89PNG")
    with pytest.raises(DataError, match="The part 'elbow' was not swapped; there are dx, dy"):
        swap_figures.part_sweep(state, "elbow", 0.0)
    with pytest.raises(DataError, match="0 executed chunks"):
        swap_figures.chunk_swaps(state.filter(pl.col("kind") != "executed"))
