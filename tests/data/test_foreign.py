"""What others recorded becomes a sound dataset, what it lacks is written down, and pickles are refused."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_factory import CAMERAS, SIZE, SPEC, STATES, H, P, assert_same_episode, make_dataset, make_episode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.export import export_lerobot, export_table
from bora_cli.data.foreign import ImportOptions
from bora_cli.data.importing import import_any
from bora_cli.data.schema import INFO
from bora_cli.errors import BoraError, ConfigError, DataError, SchemaMismatch
from bora_cli.types import Controller

MADE = [
    make_episode(5, seed=1, reward=[0, 0, 0, 0, 1]),
    make_episode([P] * 2 + [H] * 2, seed=2, prompt="open the box"),
    make_episode(3, seed=3, truncated=True, success=False),
]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("ours") / "d", MADE).root


@pytest.fixture(scope="module")
def v3(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v3") / "d"
    export_lerobot(ours, out)
    return out


@pytest.fixture(scope="module")
def v21(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v21") / "d"
    export_lerobot(ours, out, version="v2.1")
    return out


def edit(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | changes))


# ------------------------------------------------------------------------------------------ export


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_an_export_reads_like_the_dataset_and_has_none_of_our_columns(
    ours: Path, tmp_path: Path, version: str
) -> None:
    assert export_lerobot(ours, tmp_path / "out", version=version) == 3
    info = json.loads((tmp_path / "out" / INFO).read_text())
    assert info["codebase_version"] == version
    assert not {"controller", "action.human", "terminated", "decision_id"} & info["features"].keys()
    tables = [pq.read_schema(f).names for f in (tmp_path / "out").rglob("*.parquet")]
    assert not any("bora" in name or "human" in name for names in tables for name in names)
    assert not (tmp_path / "out/meta/bora.json").exists()
    again = import_any(tmp_path / "out", tmp_path / "again", ImportOptions(spec=SPEC))
    assert check(again.root) == []
    for got, want in zip(again.episodes(), MADE, strict=True):
        for name in ("state", "action", "reward", "success", "prompt"):
            assert np.array_equal(getattr(got, name), getattr(want, name)), name
        assert all(np.array_equal(got.images[c], want.images[c]) for c in CAMERAS)
        assert set(got.controller.tolist()) == {Controller.DEMO}
        assert bool(got.truncated[-1]) != want.success
    assert again.info["imported"]["from"] == f"LeRobot {version}"


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_videos_travel_too(tmp_path: Path, version: str) -> None:
    root = tmp_path / "d"
    dataset = Dataset.create(
        root, SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", video="h264-lossless"
    )
    dataset.append(MADE[0])
    export_lerobot(root, tmp_path / "out", version=version)
    again = import_any(tmp_path / "out", tmp_path / "again", ImportOptions(spec=SPEC))
    assert np.array_equal(again.episode(0).images["scene"], MADE[0].images["scene"])


def test_an_episode_as_a_table(ours: Path, tmp_path: Path) -> None:
    assert export_table(ours, -2, tmp_path / "e.parquet") == 4
    assert export_table(ours, 1, tmp_path / "e.csv") == 4
    frame = pl.read_parquet(tmp_path / "e.parquet")
    assert np.array_equal(frame["action.finger"].to_numpy(), MADE[1].action[:, 2])
    assert frame["controller"].to_list() == [P, P, H, H]
    assert pl.read_csv(tmp_path / "e.csv").columns == frame.columns
    with pytest.raises(ConfigError, match="already exists"):
        export_table(ours, 1, tmp_path / "e.csv")
    with pytest.raises(ConfigError, match=r"neither .csv nor .parquet"):
        export_table(ours, 1, tmp_path / "e.txt")


# ------------------------------------------------------------------------------------------ LeRobot


def test_a_dataset_of_ours_is_copied(ours: Path, tmp_path: Path) -> None:
    copy = import_any(ours, tmp_path / "copy", ImportOptions())
    for got, want in zip(copy.episodes(), MADE, strict=True):
        assert_same_episode(got, want)


def foreign(root: Path, *, names: Any = None, success: bool = False) -> Path:
    """Write two episodes into one file, as LeRobot does, with a missing tick in the second."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    times = [0.0, 0.05, 0.1, 0.0, 0.05, 0.15]
    columns = {
        "action": pa.array([[0.1 * i, 5.0] for i in range(6)], pa.list_(pa.float32())),
        "observation.state": pa.array([[float(i)] for i in range(6)], pa.list_(pa.float32(), 1)),
        "timestamp": pa.array(times, pa.float32()),
        "episode_index": pa.array([0, 0, 0, 1, 1, 1]),
        "task_index": pa.array([0] * 6),
    }
    if success:
        columns["won"] = pa.array([False, True, False, False, False, False])
    pq.write_table(pa.table(columns), root / "data/chunk-000/file-000.parquet")
    rows = {
        "episode_index": [0, 1],
        "tasks": [["stack"], ["stack"]],
        "length": [3, 3],
        "data/chunk_index": [0, 0],
        "data/file_index": [0, 0],
    }
    pq.write_table(pa.table(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "task": ["stack"]}), root / "meta/tasks.parquet")
    kinds = {"action": ("float32", [2]), "observation.state": ("float32", [1]), "won": ("bool", [1])}
    kinds |= {"timestamp": ("float32", [1]), "episode_index": ("int64", [1]), "task_index": ("int64", [1])}
    features = {
        k: {"dtype": kinds[k][0], "shape": kinds[k][1], "names": names if k == "action" else None}
        for k in columns
    }
    info = {
        "codebase_version": "v3.0",
        "fps": 20,
        "total_episodes": 2,
        "total_frames": 6,
        "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
    }
    (root / INFO).write_text(json.dumps(info))
    return root


@pytest.mark.parametrize("names", [["x", "grip"], {"motors": ["x", "grip"]}])
def test_what_a_foreign_dataset_lacks_is_chosen_and_written_down(tmp_path: Path, names: Any) -> None:
    root = foreign(tmp_path / "f", names=names, success=True)
    got = import_any(root, tmp_path / "out", ImportOptions(success_from="won", hand=1))
    assert check(got.root) == []
    assert got.spec.names == ("x", "grip")
    assert got.spec.groups == {"arm": (0, 1), "hand": (1, 2)}
    assert got.spec.low[0] < 0 < got.spec.high[0] - 0.5
    assert got.spec.low[1] < 5 < got.spec.high[1]
    won, lost = got.episodes()
    assert (won.success, bool(won.terminated[-1]), won.reward.tolist()) == (True, True, [0, 0, 1])
    assert (lost.success, bool(lost.truncated[-1]), lost.reward.tolist()) == (False, True, [0, 0, 0])
    assert (lost.meta["gaps"], lost.meta["source_episode"], "gaps" in won.meta) == ([2], 1, False)
    record = got.info["imported"]
    assert (record["success_from"], record["reward"]) == ("won", "1 at success")
    assert record["limits"].startswith("the data")


def test_success_must_be_said(tmp_path: Path) -> None:
    root = foreign(tmp_path / "f")
    with pytest.raises(ConfigError, match=r"Nothing in .* says whether an episode succeeded") as raised:
        import_any(root, tmp_path / "out", ImportOptions())
    assert "--success-from" in raised.value.hint
    assert not (tmp_path / "out").exists()
    for choice in ("all", "none"):
        got = import_any(root, tmp_path / choice, ImportOptions(success_from=choice, episodes=[1]))
        assert [e.success for e in got.episodes()] == [choice == "all"]
        assert got.spec.names == ("action_0", "action_1")
    with pytest.raises(SchemaMismatch, match="actions of 2 numbers; the profile has 3"):
        import_any(root, tmp_path / "out", ImportOptions(success_from="all", spec=SPEC))
    with pytest.raises(ConfigError, match="has no column 'won'"):
        import_any(root, tmp_path / "out", ImportOptions(success_from="won"))


def test_numbers_that_are_none_name_episode_and_tick(tmp_path: Path) -> None:
    root = foreign(tmp_path / "f")
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    bad = pa.array([[np.nan if i == 4 else 0.0, 0.0] for i in range(6)], pa.list_(pa.float32()))
    pq.write_table(table.set_column(0, "action", bad), path)
    with pytest.raises(DataError, match="episode 1: action is nan at tick 1"):
        import_any(root, tmp_path / "out", ImportOptions(success_from="all"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f"]
    import_any(root, tmp_path / "out", ImportOptions(success_from="all", episodes=[0]))


def test_images_are_chosen_renamed_and_scaled(v3: Path, tmp_path: Path) -> None:
    options = ImportOptions(cameras={"front": "observation.images.wrist"}, image_size=(3, 4), spec=SPEC)
    got = import_any(v3, tmp_path / "out", options)
    assert got.cameras == ("front",)
    assert got.episode(0).images["front"].shape == (5, 3, 4, 3)
    with pytest.raises(ConfigError, match=r"has no images 'observation.images.top'"):
        import_any(v3, tmp_path / "no", ImportOptions(cameras={"top": "observation.images.top"}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("meta/episodes.jsonl", "{", "line 1 is not JSON"),
        ("meta/episodes.jsonl", '{"episode_index": 0}', "line 1 has no 'length'"),
        ("meta/episodes.jsonl", '{"episode_index": 4, "length": 2, "tasks": ["a"]}', "episode 4 of 2 ticks"),
        ("data/chunk-000/episode_000001.parquet", "torn", "episode_000001.parquet cannot be read"),
    ],
)
def test_a_damaged_v21_directory_is_refused(
    ours: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    export_lerobot(ours, tmp_path / "v21", version="v2.1")
    (tmp_path / "v21" / name).write_text(content)
    with pytest.raises(DataError, match=message):
        import_any(tmp_path / "v21", tmp_path / "out", ImportOptions(spec=SPEC))
    assert not (tmp_path / "out").exists()


def test_a_version_that_is_neither(v3: Path, tmp_path: Path) -> None:
    root = foreign(tmp_path / "f")
    edit(root / INFO, codebase_version="v1.6")
    with pytest.raises(DataError, match=r"codebase_version is 'v1.6'"):
        import_any(root, tmp_path / "out", ImportOptions())


# --------------------------------------------------------------------------------------- robomimic


def robomimic(path: Path, ticks: tuple[int, ...] = (4, 3)) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        for i, n in enumerate(ticks):
            demo = data.create_group(f"demo_{i}")
            demo["actions"] = rng.uniform(-1, 1, (n, 7))
            demo["rewards"] = np.arange(n) == n - 1
            demo["states"] = rng.normal(size=(n, 30))
            demo["obs/eef"] = rng.normal(size=(n, 3))
            demo["obs/grip"] = rng.normal(size=(n, 2))
            demo["obs/front_image"] = rng.integers(0, 256, (n, 6, 8, 3), np.uint8)
            demo["next_obs/eef"] = rng.normal(size=(n, 3))
    return path


def test_robomimic_files_are_read(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "low.hdf5")
    got = import_any(path, tmp_path / "out", ImportOptions(success_from="rewards", hand=1))
    assert check(got.root) == []
    assert got.fps == 20
    assert got.state_names == ("eef_0", "eef_1", "eef_2", "grip_0", "grip_1")
    first = got.episode(0)
    with h5py.File(path) as file:
        assert np.allclose(first.action, file["data/demo_0/actions"][()])
        assert np.array_equal(first.images["front_image"], file["data/demo_0/obs/front_image"][()])
    assert (first.success, first.prompt, first.reward.tolist()) == (True, "Lift", [0, 0, 0, 1])
    chosen = ImportOptions(success_from="all", state=("obs/grip",), cameras={"c": "obs/front_image"})
    assert import_any(path, tmp_path / "two", chosen).state_names == ("grip_0", "grip_1")


def test_hdf5_of_another_layout_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["x"] = [1]
    (tmp_path / "b.h5").write_text("no")
    for name, message in (("a.hdf5", "no group 'data'; it has x"), ("b.h5", "is not an HDF5 file")):
        with pytest.raises(DataError, match=message):
            import_any(tmp_path / name, tmp_path / "out", ImportOptions())


def test_a_damaged_demonstration_is_named(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_1"]
        demo.create_dataset("packed", data=np.arange(3.0), chunks=(3,), compression="gzip")
        place = demo["packed"].id.get_chunk_info(0)
        file["data/demo_0/packed"] = np.arange(4.0)
    with open(path, "r+b") as raw:
        raw.seek(place.byte_offset)
        raw.write(b"\xff" * place.size)
    options = ImportOptions(success_from="all", state=("packed",))
    with pytest.raises(DataError, match="demo_1 cannot be read"):
        import_any(path, tmp_path / "out", options)
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/eef"]
    with pytest.raises(DataError, match="demo_1 has no 'obs/eef'"):
        import_any(path, tmp_path / "out", ImportOptions(success_from="all"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.hdf5"]


BROKEN = st.sampled_from([None, 0, -1, 1.5, "x", "{", [], {}, [1], {"a": 1}, True, float("nan")])
KEYS = ["codebase_version", "fps", "features", "data_path", "video_path", "chunks_size", "total_episodes"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), value=BROKEN, version=st.sampled_from(["v2.1", "v3.0"]))
def test_a_header_that_anybody_may_have_edited_is_refused_or_read(
    v3: Path, v21: Path, key: str, value: Any, version: str
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(shutil.copytree(v3 if version == "v3.0" else v21, Path(scratch) / "d"))
        edit(root / INFO, **{key: value})
        with contextlib.suppress(BoraError):
            import_any(root, Path(scratch) / "out", ImportOptions(spec=SPEC, episodes=[0]))
            assert check(Path(scratch) / "out") == []
        assert not list(Path(scratch).glob(".out*"))


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = robomimic(tmp_path / "a.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match="need h5py") as raised:
        import_any(path, tmp_path / "out", ImportOptions())
    assert "bora-cli[hdf5]" in raised.value.hint


# ----------------------------------------------------------------------------------------- refused


class Trap:
    """Leaves a trace if it is ever loaded."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("loaded"),))


@pytest.mark.parametrize("name", ["demos.pkl", "demos.PICKLE", "demos.pt", "folder"])
def test_pickles_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "folder":
        (tmp_path / name).mkdir()
    path = tmp_path / name / "a.pkl" if name == "folder" else tmp_path / name
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="is a pickle; loading one runs whatever code is in it"):
        import_any(tmp_path / name, tmp_path / "out", ImportOptions())
    assert not Path("loaded").exists()


def test_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "a.npy").touch()
    (tmp_path / "a.txt").touch()
    for name, message in (("a.npy", "single array"), ("a.txt", "no recording"), ("gone", "There is no")):
        with pytest.raises(BoraError, match=message):
            import_any(tmp_path / name, tmp_path / "out", ImportOptions())
