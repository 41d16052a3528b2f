"""`bora data`: each command does what it says, says it as JSON too, and changes nothing when it cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bora_cli.cli.app import main
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def demos(toy_demos: Path, tmp_path: Path) -> Path:
    """Eight episodes in a directory of one's own."""
    return Path(shutil.copytree(toy_demos, tmp_path / "demos"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["data", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the message of a refusal, after looking at exit code, stdout and remedy."""
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (3, "")
    assert "hint: " in err
    assert sorted(Path.cwd().rglob("*")) == before
    return err


def test_episodes_are_split_and_merged(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    planned = document(capsys, "split", demos, "--success", "--out", "parts", "--dry-run")
    assert not Path("parts").exists()
    done = document(capsys, "split", demos, "--success", "--out", "parts")
    assert done["parts"] == planned["parts"]
    assert [Path(part["dataset"]).name for part in done["parts"]] == ["success", "failure"]
    for dry in ([], ["--dry-run"]):
        assert "named twice" in refused(capsys, "merge", demos, demos, "--out", "all", *dry)
    merged = document(capsys, "merge", "parts/success", "parts/failure", "--out", "all")
    assert merged["episodes"] == 8
    assert [f for f in check(Path("all")) if f.severity == "error"] == []
    named = document(
        capsys,
        "split",
        demos,
        "--fraction",
        "0.75,0.25",
        "--names",
        "train,test",
        "--out",
        "two",
        "--dry-run",
    )
    assert sorted(i for part in named["parts"] for i in part["episodes"]) == list(range(8))
    assert [(Path(p["dataset"]).name, len(p["episodes"])) for p in named["parts"]] == [
        ("train", 6),
        ("test", 2),
    ]
    listed = document(
        capsys, "split", demos, "--episodes", "0:3", "--episodes", "5", "--out", "listed", "--dry-run"
    )
    assert [part["episodes"] for part in listed["parts"]] == [[0, 1, 2], [5]]


def test_split_needs_one_way_to_divide(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    assert "exactly one of" in refused(capsys, "split", demos, "--out", "x")
    assert "exactly one of" in refused(capsys, "split", demos, "--out", "x", "--success", "--fraction", "1")
    assert "no list of numbers" in refused(capsys, "split", demos, "--out", "x", "--fraction", "half")
    assert "there are 2" in refused(capsys, "split", demos, "--out", "x", "--success", "--names", "a")


def test_episodes_are_deleted_with_a_backup(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    failures = [row.index for row in Dataset.open(demos).rows() if not row.success]
    planned = document(capsys, "delete", demos, "--where", "success=false", "--dry-run")
    assert planned == {
        "dataset": str(demos),
        "deleted": failures,
        "left": 8 - len(failures),
        "backup": None,
        "dry_run": True,
    }
    assert len(Dataset.open(demos)) == 8
    code, out, _ = run(capsys, "delete", demos, "--where", "success=false")
    assert code == 0
    assert "The old dataset is" in out
    assert len(Dataset.open(f"{demos}.backup-1")) == 8
    assert all(row.success for row in Dataset.open(demos).rows())
    assert document(capsys, "delete", demos, "--episodes", "0", "--no-backup")["backup"] is None
    assert "Nothing says which" in refused(capsys, "delete", demos)
    assert "names episodes 99" in refused(capsys, "delete", demos, "--episodes", "99")


def test_a_damaged_dataset_is_repaired(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    assert run(capsys, "repair", demos)[1] == f"{demos}: nothing to repair\n"
    (demos / "data/chunk-000/file-002.parquet").write_bytes(b"torn")
    assert run(capsys, "check", demos)[0] == 3
    planned = document(capsys, "repair", demos, "--dry-run")
    assert (planned["dry_run"], planned["episodes"], planned["backup"]) == (True, 7, None)
    code, out, _ = run(capsys, "repair", demos)
    assert code == 0
    assert "set aside: episode 2" in out
    assert "episode 3 is episode 2" in out
    assert run(capsys, "check", demos)[0] == 0
    assert (demos / "quarantine/episode-000002/reason.txt").exists()
    assert "neither meta/ nor data/" in refused(capsys, "repair", demos.parent)


def test_an_interrupted_rewrite_is_pointed_out(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    demos.rename("demos.backup-1")
    Path(".demos.unfinished").mkdir()
    assert "bora data repair" in refused(capsys, "info", demos)
    assert "recovered" in run(capsys, "repair", demos)[1]
    assert len(Dataset.open(demos)) == 8


def test_statistics_are_compared_with_the_stored_ones(
    capsys: pytest.CaptureFixture[str], demos: Path
) -> None:
    found = document(capsys, "stats", demos)
    assert found["stored"] == {"agrees": True, "differs": []}
    assert found["success"]["of"] == sum(found["lengths"]["counts"]) == 8
    edges = found["lengths"]["edges"]
    assert edges[0] == found["lengths"]["min"]
    assert edges[-2] <= found["lengths"]["max"] < edges[-1]
    first = found["columns"]["action"][0]
    assert first["low"] <= first["min"] <= first["q50"] <= first["max"] <= first["high"]
    stored = json.loads((demos / "meta/stats.json").read_text())
    stored["action"]["std"][0] *= 2
    (demos / "meta/stats.json").write_text(json.dumps(stored))
    assert "stored statistics: differ: action" in run(capsys, "stats", demos)[1]


def test_a_dataset_is_summed_up(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    code, out, _ = run(capsys, "info", demos)
    assert code == 0
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert lines["episodes"].split()[1:] == ["8,", "0", "decisions", "of", "a", "policy"]
    height, width = Dataset.open(demos).image_size
    assert f"{width} x {height} px" in lines["cameras"]
    assert "100%" in lines["who acted"]
    assert "successes" in out


def test_a_dataset_of_others_is_pointed_to_the_import(
    capsys: pytest.CaptureFixture[str], demos: Path
) -> None:
    (demos / "meta/bora.json").unlink()
    assert "bora data import" in refused(capsys, "info", demos)
    code, out, _ = run(capsys, "check", demos)
    assert code == 3
    assert "meta/bora.json does not exist" in out
    assert "`bora data import` makes one of ours" in out


def test_a_dataset_goes_out_and_comes_back(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    assert document(capsys, "export", demos, "--out", "theirs")["episodes"] == 8
    plan = document(capsys, "import", "theirs", "--out", "back", "--dry-run")
    assert (plan["success_from"], plan["episodes"], Path("back").exists()) == ("next.success", 8, False)
    back = document(capsys, "import", "theirs", "--out", "back", "--episodes", "2:4")
    assert back["episodes"] == len(Dataset.open("back")) == 2
    table = document(capsys, "export", demos, "--format", "csv", "--episode", "-1", "--out", "e.csv")
    assert len(Path("e.csv").read_text().splitlines()) == table["ticks"] + 1
    assert "writes one episode" in refused(capsys, "export", demos, "--format", "csv", "--out", "f.csv")
    assert "does not end in .csv" in refused(
        capsys, "export", demos, "--format", "csv", "--episode", 0, "--out", "f"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.pkl"], "is a pickle; loading one runs whatever code is in it"),
        (["x.npz"], "says nothing about what its numbers are"),
        (["x.npz", "--profile", "adroit_door", "--dry-run"], "There is no file x.npz"),
        (["nowhere"], "There is no nowhere"),
        (["nowhere", "--camera", "scene"], "is not NAME=COLUMN"),
        (["nowhere", "--image-size", "big"], "is no size"),
    ],
)
def test_imports_that_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, "import", *arguments, "--out", "x")


def test_a_page_is_written(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    done = document(capsys, "view", demos, "--episodes", "1,3", "--out", "page.html")
    assert done["episodes"] == [1, 3]
    assert Path("page.html").stat().st_size == done["bytes"]
    assert "already exists" in refused(capsys, "view", demos, "--out", "page.html")
    code, out, err = run(capsys, "view", demos, "--where", "success=true")
    assert code == 0
    assert Path(out.strip()).is_file()
    assert "episodes" in err
    shutil.rmtree(Path(out.strip()).parent)


LOOKING: list[list[str]] = [
    ["info", "demos"],
    ["stats", "demos"],
    ["check", "demos"],
    ["view", "demos", "--where", "success=true", "--out", "../page.html"],
    ["delete", "demos", "--where", "success=true", "--dry-run"],
    ["split", "demos", "--success", "--out", "parts", "--dry-run"],
    ["merge", "demos", "--out", "all", "--dry-run"],
    ["repair", "demos", "--dry-run"],
    ["export", "demos", "--out", "theirs", "--dry-run"],
    ["import", "demos", "--out", "mine", "--success-from", "all", "--dry-run"],
]


@pytest.mark.parametrize("command", LOOKING, ids=[c[0] for c in LOOKING])
def test_looking_changes_nothing(
    capsys: pytest.CaptureFixture[str], demos: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr("bora_cli.data.row_index.GATHER", 2)
    shutil.rmtree(demos / "cache", ignore_errors=True)
    left = demos / "data/chunk-000/file-008.parquet"
    shutil.copy(demos / "data/chunk-000/file-000.parquet", left)
    left.with_name(left.name + ".tmp").write_bytes(b"half")
    place = demos.parent / "empty"
    place.mkdir()
    demos.rename(place / "demos")
    monkeypatch.chdir(place)

    def files() -> dict[Path, tuple[bytes, int]]:
        found = (p for p in place.rglob("*") if p.is_file())
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in found}

    before, folders = files(), sorted(place.rglob("*"))
    assert run(capsys, *command)[0] == 0
    assert files() == before
    assert sorted(place.rglob("*")) == folders
