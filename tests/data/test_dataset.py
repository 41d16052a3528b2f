"""A dataset gives back what was appended, and says what is wrong with what it cannot take."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from episode_factory import (
    CAMERAS,
    SIZE,
    SPEC,
    STATES,
    B,
    D,
    H,
    P,
    assert_same_episode,
    make_dataset,
    make_decision,
    make_episode,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.data.dataset import Dataset
from bora_cli.data.files import locked, write_bytes
from bora_cli.errors import CorruptEpisode, DataError, SchemaMismatch
from bora_cli.types import Decision, Episode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def decisions(draw: st.DrawFn, ticks: int) -> Decision:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    horizon, tokens, width = (draw(st.integers(1, 4)) for _ in range(3))
    chunks = rng.integers(0, 2**32, (3, horizon, SPEC.dim), np.uint32).view(np.float32)
    return Decision(
        t_start=draw(st.integers(0, ticks - 1)),
        noise_seed=draw(st.integers(0, 2**63 - 1)),
        base_hash=draw(st.text(max_size=5)),
        lam=draw(st.floats(allow_nan=False)),
        planned=draw(st.integers(0, 9)),
        base=chunks[0],
        residual=chunks[1],
        final=chunks[2],
        tokens=rng.integers(0, 2**16, (tokens, width), np.uint16).view(np.float16),
        executed=draw(st.integers(0, 9)),
        closed=draw(st.sampled_from(["horizon", "takeover", "truncated"])),
        shadow=draw(st.booleans()),
    )


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    """Draw an episode whose numbers are arbitrary bits, so also every kind of NaN."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ticks = draw(st.integers(1, 6))
    terminated = np.zeros(ticks, np.bool_)
    terminated[-1] = draw(st.booleans())
    truncated = np.zeros(ticks, np.bool_)
    truncated[-1] = not terminated[-1]

    def bits(*shape: int) -> np.ndarray:
        return rng.integers(0, 2**32, shape, np.uint32).view(np.float32)

    return Episode(
        images={c: rng.integers(0, 256, (ticks, *SIZE, 3), np.uint8) for c in CAMERAS},
        state=bits(ticks, len(STATES)),
        action=bits(ticks, SPEC.dim),
        proposed=bits(ticks, SPEC.dim),
        human=bits(ticks, SPEC.dim),
        controller=rng.integers(0, 5, ticks, np.uint8),
        phase=rng.integers(0, 256, ticks, np.uint8),
        reward=bits(ticks),
        terminated=terminated,
        truncated=truncated,
        success=draw(st.booleans()),
        prompt=draw(st.text(max_size=20)),
        meta=draw(st.dictionaries(st.text(max_size=5), JSON, max_size=4)),
        decisions=draw(st.lists(decisions(ticks), max_size=3)),
    )


@settings(max_examples=15, deadline=None)
@given(first=episodes(), second=episodes())
def test_every_episode_comes_back_bit_for_bit(first: Episode, second: Episode) -> None:
    with tempfile.TemporaryDirectory() as directory:
        dataset = make_dataset(Path(directory) / "d", [first, second])
        for opened in (dataset, Dataset.open(dataset.root)):
            assert len(opened) == 2
            assert_same_episode(opened.episode(0), first)
            assert_same_episode(opened.episode(1), second)


def test_numpy_values_and_tuples_in_meta_become_json_values(tmp_path: Path) -> None:
    meta = {"goal": np.float32(0.5), "seeds": (1, 2), "low": np.zeros(2)}
    dataset = make_dataset(tmp_path / "d", [make_episode(meta=meta)])
    assert dataset.episode(0).meta == {"goal": 0.5, "seeds": [1, 2], "low": [0.0, 0.0]}


def test_images_can_be_left_out(tmp_path: Path) -> None:
    episode = make_episode()
    found = make_dataset(tmp_path / "d", [episode]).episode(-1, images=False)
    assert found.images == {}
    assert_same_episode(found, replace(episode, images={}))


def test_columns_of_all_episodes_lie_one_after_the_other(tmp_path: Path) -> None:
    made = [make_episode(5, seed=1), make_episode(3, seed=2), make_episode(7, seed=3)]
    dataset = make_dataset(tmp_path / "d", made)
    columns, offsets = dataset.columns(["action", "next.reward", "frame_index"])
    assert offsets.tolist() == [0, 5, 8, 15]
    assert same(columns["action"], np.concatenate([e.action for e in made]))
    assert columns["frame_index"].tolist() == [*range(5), *range(3), *range(7)]
    assert columns["next.reward"].shape == (15,)


def test_columns_of_an_empty_dataset_keep_their_width(tmp_path: Path) -> None:
    columns, offsets = make_dataset(tmp_path / "d").columns(["action", "controller"])
    assert columns["action"].shape == (0, SPEC.dim)
    assert columns["controller"].shape == (0,)
    assert offsets.tolist() == [0]


def test_an_unknown_column_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        SchemaMismatch, match=r"Unknown column 'actoin'\. Known columns: observation\.state, action"
    ):
        make_dataset(tmp_path / "d").columns(["actoin"])


def test_derived_columns_follow_the_decision_log(tmp_path: Path) -> None:
    log = [make_decision(0, 4), make_decision(4, 1), make_decision(5, 0, shadow=True), make_decision(9, 3)]
    episode = make_episode([P] * 5 + [H] * 4 + [P] * 3, decisions=log)
    columns, _ = make_dataset(tmp_path / "d", [episode]).columns(
        ["decision_id", "inner_index", "intervention", "next.done", "next.success", "timestamp"]
    )
    assert columns["decision_id"].tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3]
    assert columns["inner_index"].tolist() == [0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 1, 2]
    assert columns["intervention"].tolist() == [False] * 5 + [True] * 4 + [False] * 3
    assert columns["next.done"].tolist() == columns["next.success"].tolist() == [False] * 11 + [True]
    assert columns["timestamp"] == pytest.approx(np.arange(12) / 10)


def test_ticks_without_a_decision_are_marked(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode(6, decisions=[make_decision(1, 2)])])
    columns, _ = dataset.columns(["decision_id"])
    assert columns["decision_id"].tolist() == [-1, 0, 0, -1, -1, -1]


def test_the_header_counts_and_keeps_what_create_was_told(tmp_path: Path) -> None:
    dataset = make_dataset(
        tmp_path / "d", [make_episode(5), make_episode(7, prompt="open the box"), make_episode(2)]
    )
    on_disk = json.loads((dataset.root / "meta/info.json").read_text())
    assert (on_disk["total_episodes"], on_disk["total_frames"], on_disk["total_tasks"]) == (3, 14, 2)
    assert on_disk["splits"] == {"train": "0:3"}
    assert dataset.info == {"job": {"n": 1}, **on_disk}
    columns, _ = dataset.columns(["task_index", "index", "episode_index"])
    assert columns["task_index"].tolist() == [0] * 5 + [1] * 7 + [0] * 2
    assert columns["index"].tolist() == list(range(14))


def test_the_instruction_is_the_pandas_index_of_the_task_table(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode()])
    schema = pq.read_schema(dataset.root / "meta/tasks.parquet")
    assert schema.pandas_metadata["index_columns"] == ["__index_level_0__"]


def test_statistics_do_not_depend_on_reopening(tmp_path: Path) -> None:
    made = [make_episode(5, seed=1), make_episode([D] * 9, seed=2), make_episode(4, seed=3)]
    make_dataset(tmp_path / "a", made)
    make_dataset(tmp_path / "b", made[:1])
    for episode in made[1:]:
        Dataset.open(tmp_path / "b").append(episode)
    a, b = (json.loads((tmp_path / x / "meta/stats.json").read_text()) for x in "ab")
    actions = np.concatenate([e.action for e in made]).astype(float)
    assert a["action"]["mean"] == pytest.approx(actions.mean(0).tolist())
    assert a["action"]["count"] == [18]
    assert a["action.human"]["count"] == [9]
    assert a["observation.images.scene"]["mean"] == b["observation.images.scene"]["mean"]
    assert np.shape(a["observation.images.scene"]["mean"]) == (3, 1, 1)
    for column in ("action", "next.reward"):
        for key in ("mean", "std", "min", "max", "q50"):
            assert a[column][key] == pytest.approx(b[column][key], abs=2e-3), (column, key)


def test_summary_is_json_and_counts(tmp_path: Path) -> None:
    seen = {"task": "pick", "setting": "standard", "gap": "none", "renderer": "egl"}
    made = [
        make_episode([P] * 6 + [B, H, H, B] + [P] * 2, meta={**seen, "takeovers": 1}),
        make_episode(
            [D] * 8, success=False, truncated=True, meta={**seen, "mistake": "early", "operator": "sim"}
        ),
        make_episode([D] * 4, meta={**seen, "setting": "unseen"}),
    ]
    dataset = make_dataset(tmp_path / "d", made)
    found = json.loads(json.dumps(dataset.summary()))
    assert (found["episodes"], found["ticks"], found["seconds"]) == (3, 24, 2.4)
    assert found["success"] == {"n": 2, "of": 3, "rate": 2 / 3}
    assert found["tasks"] == [
        {"task": "pick", "setting": "standard", "gap": "none", "n": 1, "of": 2, "rate": 0.5},
        {"task": "pick", "setting": "unseen", "gap": "none", "n": 1, "of": 1, "rate": 1.0},
    ]
    assert found["lengths"] == {"min": 4, "median": 8, "mean": 8, "max": 12}
    assert found["controllers"]["blended"] == {"ticks": 2, "share": 2 / 24}
    assert found["human_share"] == 4 / 12
    assert found["takeovers"] == 1
    assert found["mistakes"] == {"none": 2, "early": 1}
    assert found["renderers"] == {"egl": 3}
    assert found["size_bytes"] > 1000
    assert make_dataset(tmp_path / "e").summary()["success"] == {"n": 0, "of": 0, "rate": None}


def test_create_refuses_a_directory_in_use(tmp_path: Path) -> None:
    make_dataset(tmp_path / "d")
    with pytest.raises(DataError, match=r"is already a dataset\. Open it to append"):
        make_dataset(tmp_path / "d")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty; expected a new directory"):
        make_dataset(tmp_path)


def test_open_says_that_there_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a bora dataset: it has no meta/bora\.json"):
        Dataset.open(tmp_path)


def test_open_refuses_a_newer_format(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d")
    identity = dataset.identity.to_json() | {"format": 99}
    (dataset.root / "meta/bora.json").write_text(json.dumps(identity))
    with pytest.raises(DataError, match="has format 99; expected 1"):
        Dataset.open(dataset.root)


def test_an_index_outside_names_the_range(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode()])
    with pytest.raises(
        DataError, match=r"Episode 3 does not exist; the dataset has 1\. Use an index from 0 to 0"
    ):
        dataset.episode(3)


def test_append_refuses_what_does_not_fit_and_leaves_nothing(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d")
    good = make_episode()
    no_wrist = {"scene": good.images["scene"]}
    bad_decision = replace(make_decision(0, 4), tokens=np.zeros((2, 3), np.float32))
    wrong = {
        r"Episode\.state is float32 \[20, 3\]; expected float32 \[20, 2\]": {
            "state": np.zeros((20, 3), np.float32)
        },
        r"Episode\.action is float64": {"action": good.action.astype(float)},
        r"Episode\.controller is int64": {"controller": good.controller.astype(int)},
        r"images of \['scene'\]; expected \['scene', 'wrist'\]": {"images": no_wrist},
        r"decisions\[0\]\.tokens is float32": {"decisions": [bad_decision]},
        r"Ticks \['19 terminated', '19 truncated'\] of 20": {"truncated": good.terminated},
        r"Ticks \[\] of 20 are": {"terminated": good.truncated},
    }
    for message, change in wrong.items():
        with pytest.raises(SchemaMismatch, match=message):
            dataset.append(replace(good, **change))
    with pytest.raises(DataError, match=r"Episode\.meta\['when'\] cannot be stored as JSON: PosixPath"):
        dataset.append(replace(good, meta={"when": tmp_path}))
    assert len(Dataset.open(dataset.root)) == 0
    assert not (dataset.root / "data").exists()


def test_two_writers_cannot_append_at_once(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode()])
    with locked(dataset.root / "meta/bora.json") as mine:
        assert mine
        with pytest.raises(DataError, match="Another process is appending to"):
            dataset.append(make_episode())
        assert len(Dataset.open(dataset.root)) == 1


def test_an_append_waits_for_somebody_who_only_looks(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode()])
    held, leave = threading.Event(), threading.Event()

    def look() -> None:
        with locked(dataset.root / "meta/bora.json"):
            held.set()
            leave.wait(0.03)

    reader = threading.Thread(target=look)
    reader.start()
    assert held.wait(10)
    assert dataset.append(make_episode()) == 1
    reader.join()


def test_two_handles_append_one_after_the_other(tmp_path: Path) -> None:
    first = make_dataset(tmp_path / "d", [make_episode(3, seed=1)])
    second = Dataset.open(first.root)
    assert second.append(make_episode(4, seed=2)) == 1
    assert first.append(make_episode(5, seed=3)) == 2
    assert [len(e) for e in Dataset.open(first.root).episodes(images=False)] == [3, 4, 5]
    assert json.loads((first.root / "meta/stats.json").read_text())["action"]["count"] == [12]


def test_a_changed_returned_episode_does_not_change_the_next_one(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode(meta={"list": [1]})])
    found = dataset.episode(0)
    found.meta["list"].append(2)
    found.action[:] = 0
    assert_same_episode(dataset.episode(0), make_episode(meta={"list": [1]}))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode(decisions=[make_decision(0, 4)])])
    file = dataset.root / "data/chunk-000/file-000.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptEpisode, match=r"file-000\.parquet cannot be read"):
        dataset.episode(0)
    file.unlink()
    with pytest.raises(CorruptEpisode, match=r"data/chunk-000/file-000\.parquet is missing"):
        dataset.episode(0)


def test_appending_goes_on_when_an_older_episode_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode(seed=1), make_episode(seed=2)])
    (dataset.root / "data/chunk-000/file-000.parquet").write_bytes(b"torn")
    reopened = Dataset.open(dataset.root)
    assert reopened.append(make_episode(seed=3)) == 2
    assert "Statistics leave out episode 0" in caplog.text
    assert_same_episode(reopened.episode(2), make_episode(seed=3))


def test_a_file_is_replaced_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_bytes(path, b"old")

    def fail(label: str) -> None:
        if label.startswith("synced file"):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_bytes(path, b"new", fail)
    assert path.read_bytes() == b"old"


def test_files_above_a_thousand_go_to_the_next_chunk(tmp_path: Path) -> None:
    from bora_cli.data.schema import DATA_PATH, episode_file

    assert episode_file(tmp_path, DATA_PATH, 1007) == tmp_path / "data/chunk-001/file-007.parquet"
