"""`bora train` with input that cannot be trained on: one error, its remedy, exit code 3, and nothing was begun."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from bora_cli.cli.app import main
from bora_cli.data.dataset import Dataset
from bora_cli.models.loading import quiet
from bora_cli.train.run import Phase
from small_vlms import save_family, tokenizer
from toy_world import toy_dataset, toy_demonstrations


class World:
    """Files that a command may be given; everything it makes lies in `root`."""

    def __init__(self, root: Path, demos: Path, backbone: Path, policy: Path) -> None:
        self.root, self.demos, self.backbone, self.policy = root, demos, backbone, policy
        self.episodes = toy_demonstrations(4)

    def data(self, name: str, episodes: list[Any]) -> Path:
        return toy_dataset(self.root / name, episodes).root

    def other_robot(self, name: str, **changes: Any) -> Path:
        old = Dataset.open(self.demos)
        about: dict[str, Any] = {
            "action_spec": replace(old.spec, high=old.spec.high * 2) if "wider" in name else old.spec,
            "state_names": ("elbow", *old.state_names[1:]) if "elbow" in name else old.state_names,
            "cameras": old.cameras,
            "image_size": 64,
            "fps": 20 if "faster" in name else 10,
            "robot_type": "other",
        }
        spec, states, cameras = (about.pop(k) for k in ("action_spec", "state_names", "cameras"))
        dataset = Dataset.create(self.root / name, spec, states, cameras, **about)
        dataset.append(self.episodes[0])
        return dataset.root

    def copy(self, source: Path, name: str) -> Path:
        return Path(shutil.copytree(source, self.root / name))


def no_rewards(w: World) -> list[Any]:
    return ["bora", "--data", w.data("d", [replace(e, reward=np.zeros_like(e.reward)) for e in w.episodes])]


def failures(method: str) -> Callable[[World], list[Any]]:
    return lambda w: [method, "--data", w.data("d", [e for e in w.episodes if not e.success])]


def not_a_number(w: World) -> list[Any]:
    state = w.episodes[1].state.copy()
    state[3, 0] = np.nan
    return ["cp", "--data", w.data("d", [w.episodes[0], replace(w.episodes[1], state=state)])]


def two_robots(name: str) -> Callable[[World], list[Any]]:
    return lambda w: ["cp", "--data", w.demos, "--data", w.other_robot(name)]


def held_out_of_another(w: World) -> list[Any]:
    return ["cp", "--data", w.demos, "--validate", w.other_robot("wider")]


def start_of_another(w: World) -> list[Any]:
    return ["bora", "--data", w.other_robot("wider"), "--init", w.policy]


def shape(w: World) -> list[Any]:
    folder = w.copy(w.policy, "start")
    config = json.loads((folder / "config.json").read_text())
    config["expert"]["width"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    return ["bora", "--data", w.demos, "--init", folder]


def torn(w: World) -> list[Any]:
    folder = w.copy(w.policy, "start")
    weights = folder / "actor.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return ["bora", "--data", w.demos, "--init", folder]


def backbone_without(*names: str) -> Callable[[World], list[Any]]:
    def command(w: World) -> list[Any]:
        folder = w.copy(w.backbone, "vlm")
        for name in names:
            (folder / name).unlink()
        return ["cp", "--data", w.demos, "--backbone", folder]

    return command


def text_alone(w: World) -> list[Any]:
    words, folder = tokenizer(()), w.root / "vlm"
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with quiet():
        LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    words.save_pretrained(folder)
    return ["cp", "--data", w.demos, "--backbone", folder]


def spoilt_backbone(w: World) -> list[Any]:
    folder = w.copy(w.backbone, "vlm")
    tensors = load_file(folder / "model.safetensors")
    name = next(k for k in sorted(tensors) if "layernorm" in k)
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return ["cp", "--data", w.copy(w.demos, "d"), "--backbone", folder]


def no_backbone(w: World) -> list[Any]:
    return ["cp", "--data", w.demos, "--backbone", w.root / "nowhere"]


def camera(w: World) -> list[Any]:
    folder = w.copy(w.backbone, "vlm")
    (folder / "bora_backbone.json").write_text('{"cameras": ["scene", "ceiling"]}')
    return ["cp", "--data", w.demos, "--backbone", folder]


def image_size(w: World) -> list[Any]:
    old = Dataset.open(w.demos)
    create: dict[str, Any] = {"image_size": 48, "fps": 10, "robot_type": "toy"}
    data = Dataset.create(w.root / "small", old.spec, old.state_names, old.cameras, **create)
    episode = w.episodes[0]
    data.append(replace(episode, images={c: v[:, :48, :48].copy() for c, v in episode.images.items()}))
    return ["cp", "--data", data.root]


def families_size(w: World) -> list[Any]:
    """Say that a Llava-like checkpoint of another family has lost its tokenizer."""
    folder = save_family("paligemma2", w.root / "vlm")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return ["cp", "--data", w.demos, "--backbone", folder]


CASES: dict[str, tuple[Callable[[World], list[Any]], str, str]] = {
    "no rewards": (
        no_rewards,
        r"The data has no rewards: all of them are 0 in 4 episodes, and bora learns from rewards\.",
        r"Record with a reward, give one when importing",
    ),
    "failures, a critic": (
        failures("bora"),
        r"None of 2 episodes succeeded; bora learns what success takes by comparison with failure\.",
        r"Add successful episodes, or train cp\.",
    ),
    "failures, to imitate": (
        failures("filtered_bc"),
        r"No successful episode to imitate\.",
        r"Collect better demonstrations\.",
    ),
    "NaN": (
        not_a_number,
        r"Episode 1 of \S+/d has 1 values of state that are not finite, the first at tick 3\.",
        r"Find all of them with `bora data check`; leave the episode out with `bora data delete`\.",
    ),
    "two robots": (two_robots("wider"), r"\S+demos and \S+wider: action specs differ .*high", r"\w+"),
    "two robots' states": (
        two_robots("elbow"),
        r"\S+demos and \S+elbow: states differ in elbow, tool_x\.",
        r"Use data and checkpoint of one robot\.",
    ),
    "two rates": (
        two_robots("faster"),
        r"\S+demos and \S+faster: 10 against 20 ticks per second\.",
        r"Use data recorded at one rate\.",
    ),
    "held-out episodes of another robot": (
        held_out_of_another,
        r"\S+demos and \S+wider: action specs differ",
        r"\w+",
    ),
    "start of another robot": (start_of_another, r"\S+policy and \S+wider: action specs differ", r"\w+"),
    "start of another shape": (shape, r"\S+start does not fit this version \(.*\)\.", r"Train it again\."),
    "start that is damaged": (
        torn,
        r"\S+start/actor\.safetensors is damaged \(.*\)\.",
        r"Train the checkpoint again\.",
    ),
    "no backbone": (
        no_backbone,
        r"Backbone directory not found: \S+nowhere; expected one with config\.json and model\.safetensors\.",
        r'Pre-train one with "bora pretrain --out DIR", or give a hub id',
    ),
    "no processor file": (
        backbone_without("processor_config.json"),
        r"The processor of backbone \S+vlm (could not be loaded: .*|has no image_processor\.)",
        r"\w+.*processor_config\.json",
    ),
    "no tokenizer files": (
        families_size,
        r"The processor of backbone \S+vlm (could not be loaded: .*|has no tokenizer\.)",
        r"\w+.*tokenizer",
    ),
    "no image tokens": (
        text_alone,
        r"The processor of backbone \S+vlm has no image_processor and no tokenizer\.",
        r"Use an image-text-to-text checkpoint with processor_config\.json and tokenizer\.json\.",
    ),
    "a camera": (
        camera,
        r"\S+demos has no camera ceiling; it has scene, wrist\.",
        r"Use a backbone made for",
    ),
    "image size": (
        image_size,
        r"Images are 48 x 48 pixels; this backbone was made for 64 x 64\.",
        r"Record or resize the images at that size\.",
    ),
    "NaN in the backbone": (
        spoilt_backbone,
        r"\d+ of \d+ numbers in the tokens of backbone \w+ are not finite in half precision",
        r"Look for NaN in its weights",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_before_anything_is_trained(
    toy_demos: Path,
    toy_backbone: Path,
    toy_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(Phase, "__iter__", lambda self: pytest.fail("trained"))
    make, said, remedy = CASES[case]
    command = [str(word) for word in make(World(tmp_path, toy_demos, toy_backbone, toy_policy))]
    before = {p for p in tmp_path.rglob("*") if p.suffix in (".npy", ".safetensors", ".json")}
    with pytest.raises(SystemExit) as leaving:
        main(["train", *command, "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert leaving.value.code == 3, error
    assert re.match(rf"error: {said}", error), error
    assert re.search(rf"\nhint: {remedy}", error), error
    assert len(error.splitlines()) == 2, error
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.run").exists()
    assert {p for p in tmp_path.rglob("*") if p.suffix in (".npy", ".safetensors", ".json")} == before


def test_successes_alone_are_accepted_and_the_result_says_what_that_means(
    toy_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_dataset(tmp_path / "d", [e for e in toy_demonstrations(4) if e.success])
    words = ("--data", str(data.root), "--backbone", str(toy_backbone), "--updates", "1", "--json")
    with pytest.raises(SystemExit) as leaving:
        main(["train", "bora", *words, "--out", str(tmp_path / "out")])
    assert not leaving.value.code
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning == "All 2 episodes succeeded: a critic can only learn from them what was faster."
