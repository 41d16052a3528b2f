"""Whatever a file of others holds: it is imported soundly, or refused with one error and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_factory import SPEC, make_dataset, make_episode

from bora_cli.data.export import export_lerobot
from bora_cli.data.foreign import ImportOptions
from bora_cli.data.importing import import_any
from bora_cli.data.lerobot import LeRobotDataset
from bora_cli.data.schema import INFO
from bora_cli.data.untrusted import malformed
from bora_cli.errors import ConfigError, CorruptEpisode, DataError

DATA = Path("data/chunk-000/file-000.parquet")
ROW = Path("meta/episodes/chunk-000/file-000.parquet")
CAMERA = "observation.images.scene"
SAID = ImportOptions(success_from="all")


def robomimic(path: Path, damage: Callable[[Any], None] = lambda file: None, env_args: Any = None) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "env_kwargs": {"control_freq": 20}} if env_args is None else env_args
        )
        for i in range(2):
            demo = data.create_group(f"demo_{i}")
            demo["actions"] = rng.uniform(-1, 1, (4, 3))
            demo["obs/eef"] = rng.normal(size=(4, 2))
            demo["obs/front_image"] = rng.integers(0, 256, (4, 6, 8, 3), np.uint8)
        damage(file)
    return path


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a dataset in each of LeRobot's layouts."""
    base = tmp_path_factory.mktemp("others")
    ours = make_dataset(base / "ours", [make_episode(5, seed=1), make_episode(3, seed=2)]).root
    for version in ("v3.0", "v2.1"):
        export_lerobot(ours, base / version, version=version)
    return {version: base / version for version in ("v3.0", "v2.1")}


def refused(path: Path, tmp_path: Path, options: ImportOptions = SAID) -> str:
    """Return the message of an import that must fail, and require that nothing is left."""
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises((DataError, ConfigError)) as caught:
        import_any(path, tmp_path / "out", options)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert caught.value.hint
    assert path.name in caught.value.message or "meta/" in caught.value.message
    assert "unfinished" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return caught.value.message


# ------------------------------------------------------------------------- what leads out of an HDF5 file


def swap(name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    def damage(file: Any) -> None:
        if name in file:
            del file[name]
        made = make(file)
        if made is not None:
            file[name] = made

    return damage


def raw(file: Any) -> None:
    outside = [("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    file["data/demo_0/obs"].create_dataset("front_image", (4, 2, 2, 3), "u1", external=outside)


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource("other.hdf5", "x", (4, 2))
    file["data/demo_0/obs"].create_virtual_dataset("eef", layout)


def detour(file: Any) -> h5py.SoftLink:
    file["elsewhere"] = h5py.ExternalLink("other.hdf5", "/")
    return h5py.SoftLink("/elsewhere/data/demo_0")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (swap("data/demo_0/obs/front_image", raw), "data/demo_0/obs/front_image"),
        (swap("data/demo_0/obs/eef", virtual), "data/demo_0/obs/eef"),
        (swap("data/demo_1", lambda file: h5py.ExternalLink("other.hdf5", "/data")), "data/demo_1"),
        (swap("data/demo_1", detour), "elsewhere"),
    ],
    ids=["external storage", "virtual dataset", "external link", "soft link to an external one"],
)
def test_an_hdf5_file_reads_no_other_file(damage: Any, named: str, tmp_path: Path) -> None:
    path = robomimic(tmp_path / "a.hdf5", damage)
    assert refused(path, tmp_path) == f"{path}: '{named}' leads to another file, which bora does not read."


# -------------------------------------------------------------------------------------- malformed HDF5


@pytest.mark.parametrize("kwargs", [[1], None, {"control_freq": "fast"}, {"control_freq": 10**400}, 7])
def test_a_rate_that_is_none_counts_as_not_stated(kwargs: Any, tmp_path: Path) -> None:
    path = robomimic(tmp_path / "a.hdf5", env_args={"env_kwargs": kwargs})
    assert "does not state its rate" in refused(path, tmp_path)
    assert import_any(path, tmp_path / "out", ImportOptions(success_from="all", fps=5)).fps == 5


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -5, 1e12])
def test_an_impossible_rate_names_the_source(rate: float, tmp_path: Path) -> None:
    path = robomimic(tmp_path / "a.hdf5", env_args={"env_kwargs": {"control_freq": rate}})
    assert f"{path} has {float(rate):g} ticks per second" in refused(path, tmp_path)
    given = ImportOptions(success_from="all", fps=float("nan"))
    assert f"{path} has nan ticks per second" in refused(path, tmp_path, given)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (swap("data/demo_1", lambda file: h5py.SoftLink("/nowhere")), "data/demo_1"),
        (
            swap("data/demo_0/actions", lambda file: file["data/demo_0"].create_group("actions") and None),
            "no act",
        ),
        (swap("data/demo_0", lambda file: np.zeros(3)), "data/demo_0"),
        (swap("data", lambda file: np.zeros(3)), "'data' is no group"),
        (
            swap("data/demo_1/obs/eef", lambda file: np.array([b"1", b"2"] * 2)),
            "demo_1/obs/eef holds no numbers",
        ),
        (swap("data/demo_1/obs/eef", lambda file: 3.0), "demo_1/obs/eef"),
        (swap("data/demo_1/obs/eef", lambda file: np.full((4, 2), 1e300)), "obs/eef is inf"),
        (
            swap("data/demo_1/obs/eef", lambda file: file.create_group("data/demo_1/obs/eef") and None),
            "obs/eef",
        ),
    ],
    ids=[
        "dangling link",
        "actions a group",
        "demo an array",
        "data an array",
        "texts",
        "scalar",
        "1e300",
        "group",
    ],
)
def test_malformed_hdf5_is_refused(damage: Any, message: str, tmp_path: Path) -> None:
    assert message in refused(robomimic(tmp_path / "a.hdf5", damage), tmp_path)


# ------------------------------------------------------------------------------------ malformed LeRobot


def edit(root: Path, **changes: Any) -> None:
    document = json.loads((root / INFO).read_text())
    (root / INFO).write_text(json.dumps(document | changes))


def feature(root: Path, **changes: Any) -> None:
    features = json.loads((root / INFO).read_text())["features"]
    edit(root, features=features | {CAMERA: features[CAMERA] | changes})


def column(file: Path, name: str, make: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        table = pq.read_table(root / file)
        pq.write_table(table.set_column(table.column_names.index(name), name, make(table[name])), root / file)

    return damage


def images(make: Callable[[], Any]) -> Callable[[Path], None]:
    return column(DATA, CAMERA, lambda old: pa.array([make()] * len(old)))


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda root: edit(root, data_path="data/\0{chunk_index}"),
        lambda root: edit(root, data_path="data/{chunk_index:0999999999d}.parquet"),
        lambda root: edit(root, data_path="data/{chunk_index.__class__}.parquet"),
        lambda root: edit(root, data_path="data/" + "x" * 5000),
        lambda root: edit(root, fps=10**400),
        lambda root: edit(root, features=None),
        lambda root: feature(root, shape=[True, "a", None]),
        lambda root: (root / INFO).write_text("[" * 100_000),
        lambda root: (root / INFO).write_text('{"fps": ' + "1" * 5000 + "}"),
    ],
    ids=["NUL", "width", "attribute", "long", "fps", "features", "shape", "nested", "digits"],
)
def test_malformed_headers_are_refused(
    version: str, damage: Any, others: dict[str, Path], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(others[version], tmp_path / "d"))
    damage(root)
    refused(root, tmp_path, ImportOptions(success_from="all", spec=SPEC))


@pytest.mark.parametrize(
    "damage",
    [
        column(ROW, "length", lambda old: pa.array(["4"] * len(old))),
        column(ROW, "data/chunk_index", lambda old: pa.array(["../../x"] * len(old))),
        images(lambda: "a text"),
        images(lambda: {"path": "/etc/passwd"}),
        images(lambda: {"bytes": "a text", "path": None}),
        column(DATA, "action", lambda old: pa.array(["a"] * len(old))),
    ],
    ids=["length", "chunk", "texts", "no bytes", "bytes a text", "action"],
)
def test_malformed_tables_are_refused(damage: Any, others: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(others["v3.0"], tmp_path / "d"))
    damage(root)
    refused(root, tmp_path)


def test_a_header_may_say_nothing_about_a_camera(others: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(others["v3.0"], tmp_path / "d"))
    feature(root, info=None)
    assert CAMERA in LeRobotDataset.open(root).cameras


@pytest.mark.parametrize(
    "line",
    [
        '{"episode_index":' + "[" * 100_000,
        '{"episode_index": 0, "length": true, "tasks": ["t"]}',
        '{"episode_index": 0, "length": 5, "tasks": [{"a": 1}]}',
    ],
    ids=["nested", "length", "tasks"],
)
def test_malformed_lines_are_refused(line: str, others: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(others["v2.1"], tmp_path / "d"))
    (root / "meta/episodes.jsonl").write_text(line + "\n")
    assert "episodes.jsonl, line 1" in refused(root, tmp_path)


# --------------------------------------------------------------------------------------- the translation


def test_one_error_names_the_file_and_keeps_the_cause() -> None:
    said = r"^a\.h5 is malformed \(KeyError: 'x'\)\. Restore"
    with pytest.raises(CorruptEpisode, match=said) as caught, malformed("a.h5"):
        raise KeyError("x")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ConfigError, match="mine"), malformed("a.h5"):
        raise ConfigError("mine")
    with pytest.raises(ZeroDivisionError), malformed("a.h5"):
        1 / 0  # noqa: B018
