"""Finding a policy that lies elsewhere than when it was recorded."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bora_cli.checkpoint import load_trained, save_trained
from bora_cli.errors import CheckpointError
from bora_cli.evaluate.evaluate import checkpoint_hash
from bora_cli.evaluate.moved import find_policy

REMEDY = "Say where it is."


@pytest.fixture
def run(toy_policy: Path, tmp_path: Path) -> Path:
    """Folder of a run with a policy that is not the one, something else, and an empty dataset."""
    run = tmp_path / "moved"
    other = load_trained(toy_policy)
    save_trained(run / "policies" / "bora", replace(other, provenance=other.provenance | {"number": 1}))
    (run / "policies" / "vlm").mkdir()
    (run / "policies" / "vlm" / "config.json").write_text("{}")
    (run / "demo" / "rollouts").mkdir(parents=True)
    return run


@pytest.mark.parametrize(
    ("recorded", "now"),
    [
        ("runs/demo/policies/cp", "policies/cp"),
        ("/home/them/runs/demo/policies/cp", "policies/cp"),
        ("policies/cp", "policies/renamed"),
        ("online/policy", "demo/online/policy"),
    ],
)
def test_a_moved_policy_is_found_by_its_hash_beside_the_data(
    run: Path, toy_policy: Path, recorded: str, now: str
) -> None:
    shutil.copytree(toy_policy, run / now)
    found = find_policy(
        Path(recorded), checkpoint_hash(toy_policy), [run / "demo" / "rollouts"], remedy=REMEDY
    )
    assert found == run / now


def test_where_it_was_comes_first_and_the_checkpoint_in_question_next(
    run: Path, toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = checkpoint_hash(toy_policy)
    shutil.copytree(toy_policy, run / "policies" / "cp")
    monkeypatch.chdir(run)
    assert find_policy(Path("policies/cp"), digest, [toy_policy], remedy=REMEDY) == Path("policies/cp")
    assert find_policy(Path("gone/cp"), digest, [toy_policy, run], remedy=REMEDY) == toy_policy


def test_another_policy_is_never_taken_for_it(
    run: Path, toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    with pytest.raises(CheckpointError) as told:
        find_policy(
            Path("policies/bora"), checkpoint_hash(toy_policy), [run / "demo" / "rollouts"], remedy=REMEDY
        )
    message = str(told.value)
    assert f"policies/bora with hash {checkpoint_hash(toy_policy)}, is not found" in message
    assert f"Looked there from {run}, and in {run / 'demo' / 'rollouts'} and 4 folders above" in message
    assert f"policies/bora, {run / 'policies' / 'vlm'} have other hashes." in message
    assert message.endswith(REMEDY)
    with pytest.raises(CheckpointError, match=r"Looked there from .*moved: no policy\. Say where"):
        find_policy(Path("gone"), "0123", remedy=REMEDY)
