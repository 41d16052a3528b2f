"""Checkpoints: a directory that loads without the data it was trained on.

    DIR/config.json           what the parts are and where they come from (written last; its presence means complete)
    DIR/<part>.safetensors    weights of one part: actor (expert and normalisation statistics), critic, decoupled
                              (the critic of that baseline), residual, backbone (its part that was trained)
    DIR/README.md             model card

The backbone is not copied: config.json names its source and its hash, and loading refuses another one.  Of a backbone
that was trained in part, the checkpoint holds that part, and the hash is that of the whole with it.
Writing goes to a temporary neighbour that is synced and renamed, so a checkpoint is wholly there or not at all;
where a save was killed while it put the new one in the place of the old one, loading brings the old one back.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bora_cli import __version__
from bora_cli.data.files import directory_written, recover_directory
from bora_cli.errors import CheckpointError
from bora_cli.models.adapt import Adaptation, restore
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.decoupled import DecoupledConfig, DecoupledCritic
from bora_cli.models.diffusion import DiffusionConfig, DiffusionExpert
from bora_cli.models.normalize import Normalizer
from bora_cli.models.policy import Actor, PolicySpec, VLAPolicy
from bora_cli.models.residual import ResidualActor, ResidualConfig
from bora_cli.models.vlm import Backbone
from bora_cli.types import ActionSpec

FORMAT = 1
TINY = "tiny"
"""Name of the backbone that comes with the package."""


def package_versions() -> dict[str, str]:
    """Return the versions that shape results, for provenance."""
    versions = {"bora-cli": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "numpy", "mujoco"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def code_hash() -> str:
    """Return a hash of the source of this package (12 hexadecimal digits), for provenance; it needs no repository."""
    root = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def save_checkpoint(
    path: Path,
    config: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, Tensor]],
    card: str,
) -> Path:
    """Write a checkpoint directory; an existing one at `path` is replaced only once the new one is complete.

    config: JSON-serialisable; `format`, `versions` and `code` (see `code_hash`) are added.  parts: name -> state dict.
    """
    path = Path(path)
    about = {"versions": package_versions(), "code": code_hash()}
    full = {"format": FORMAT, **config, "parts": sorted(parts), **about}
    with directory_written(path) as fresh:
        for name, weights in parts.items():
            tensors = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
            save_file(tensors, fresh / f"{name}.safetensors")
        _write(fresh / "README.md", card)
        _write(fresh / "config.json", json.dumps(full, indent=1))
    return path


@dataclass
class Trained:
    """What a training run produces: an actor, perhaps a critic and a residual, and where they come from.

    critic: of tokens and chunks.  decoupled: instead, the critic of pixels that the decoupled baselines have.
    adaptation: which part of the backbone was trained; adapted: its tensors, see `adapt.trained_state`.
    lam: share of the residual that is added.  backbone: its name or path; backbone_hash: of its weights.
    provenance: method, task, seed, data, updates...; anything JSON-serialisable.
    """

    spec: PolicySpec
    actor: Actor
    backbone: str
    backbone_hash: str
    provenance: dict[str, Any]
    critic: ChunkCritic | None = None
    residual: ResidualActor | None = None
    lam: float = 0.0
    decoupled: DecoupledCritic | None = None
    adaptation: Adaptation | None = None
    adapted: dict[str, Tensor] | None = None

    def unit(self) -> Tensor:
        """Return one command unit (half the range of an action dimension) in normalised action units, float [A]."""
        return torch.from_numpy(self.spec.action.half_range) / self.actor.action.scale

    def policy(self) -> VLAPolicy:
        """Return the policy that acts; raises CheckpointError as `load_backbone` does."""
        return VLAPolicy(self.spec, self.load_backbone(), self.actor, self.residual, self.lam)

    def load_backbone(self) -> Backbone:
        """Return the backbone; raises CheckpointError if it is not the one the policy was trained on."""
        backbone = load_backbone(self.backbone, self.spec.cameras)
        if self.adaptation is not None and self.adapted is not None:
            restore(backbone, self.adaptation, self.adapted)
        if backbone.hash != self.backbone_hash:
            raise CheckpointError(
                f"The backbone {self.backbone} has hash {backbone.hash}; the checkpoint was trained on"
                f" {self.backbone_hash}.",
                "Restore the backbone it was trained on, or train again.",
            )
        return backbone


def save_trained(path: Path, trained: Trained) -> Path:
    """Write a trained policy as a checkpoint."""
    spec = asdict(trained.spec) | {"action": trained.spec.action.to_json()}
    parts: dict[str, Mapping[str, Tensor]] = {"actor": trained.actor.state_dict()}
    config: dict[str, Any] = {
        "spec": spec,
        "head": "diffusion" if isinstance(trained.actor.expert, DiffusionExpert) else "consistency",
        "expert": trained.actor.expert.config.model_dump(),
        "backbone": {"source": trained.backbone, "hash": trained.backbone_hash},
        "lam": trained.lam,
        "provenance": trained.provenance,
    }
    if trained.critic is not None:
        parts["critic"] = trained.critic.state_dict()
        config["critic"] = trained.critic.config.model_dump()
    if trained.decoupled is not None:
        parts["decoupled"] = trained.decoupled.state_dict()
        config["decoupled"] = trained.decoupled.config.model_dump()
    if trained.adaptation is not None and trained.adapted is not None:
        parts["backbone"] = trained.adapted
        config["backbone"]["adaptation"] = str(trained.adaptation)
    if trained.residual is not None:
        parts["residual"] = trained.residual.state_dict()
        config["residual"] = trained.residual.config.model_dump()
    return save_checkpoint(path, config, parts, model_card(config))


def load_trained(path: Path) -> Trained:
    """Read a checkpoint written by `save_trained`."""
    config = read_config(path)
    try:
        spec = _policy_spec(config["spec"])
        expert = _expert(config.get("head", "consistency"), config["expert"])
        state = Normalizer.identity(len(spec.state_names))
        actor = Actor(expert, state, Normalizer.identity(spec.action.dim))
        actor.load_state_dict(read_part(path, "actor"))
        critic = decoupled = residual = None
        if "critic" in config:
            critic = ChunkCritic(CriticConfig(**config["critic"]))
            critic.load_state_dict(read_part(path, "critic"))
        if "decoupled" in config:
            decoupled = DecoupledCritic(DecoupledConfig(**config["decoupled"]))
            decoupled.load_state_dict(read_part(path, "decoupled"))
        if "residual" in config:
            residual = ResidualActor(ResidualConfig(**config["residual"]))
            residual.load_state_dict(read_part(path, "residual"))
        adaptation = Adaptation.parse(config["backbone"].get("adaptation", "none"))
        return Trained(
            spec,
            actor,
            config["backbone"]["source"],
            config["backbone"]["hash"],
            config["provenance"],
            critic,
            residual,
            float(config["lam"]),
            decoupled,
            adaptation,
            read_part(path, "backbone") if adaptation is not None else None,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} does not fit this version ({reason}).", "Train it again.") from error


def _expert(head: str, config: dict[str, Any]) -> ConsistencyExpert | DiffusionExpert:
    if head == "diffusion":
        return DiffusionExpert(DiffusionConfig(**config))
    if head == "consistency":
        return ConsistencyExpert(ConsistencyConfig(**config))
    raise ValueError(f"unknown head {head}")


def load_backbone(source: str, cameras: Sequence[str] = ("scene", "wrist")) -> Backbone:
    """Return the backbone of a name ("tiny" comes with the package), a directory or a hub id.

    cameras: of a checkpoint that does not say which it was made for.
    """
    return Backbone.load(tiny_backbone_path() if source == TINY else source, cameras=cameras)


def tiny_backbone_path() -> Path:
    """Return the directory of the weights that come with the package."""
    return Path(__file__).parent / "assets" / "tiny_vlm"


def model_card(config: Mapping[str, Any]) -> str:
    """Return the README.md of a checkpoint."""
    facts = config["provenance"]
    lines = ["---", "library_name: bora-cli", "tags: [robotics, vla, consistency-policy]", "---", ""]
    lines += [f"# {facts.get('method', 'policy')} for {facts.get('task', 'an unnamed task')}", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    lines += [f"- backbone: {config['backbone']['source']} ({config['backbone']['hash']})", ""]
    lines += ["Evaluate with `bora eval DIR --task TASK --episodes 100`.", ""]
    return "\n".join(lines)


def _policy_spec(data: dict[str, Any]) -> PolicySpec:
    action = ActionSpec.from_json(data["action"])
    names = {"state_names": tuple(data["state_names"]), "cameras": tuple(data["cameras"])}
    size = {"image_size": tuple(data["image_size"])} if "image_size" in data else {}
    return PolicySpec(**(data | names | size | {"action": action}))


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json of a checkpoint; raises CheckpointError with the remedy if there is none."""
    path = Path(path)
    recover_directory(path)
    if not path.is_dir():
        raise CheckpointError(
            f"No checkpoint at {path}: there is no such directory.", "Make one with `bora train`."
        )
    file = path / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f"{path} is not a checkpoint: it has no config.json.",
            "Name the directory that `bora train --out` made.",
        )
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise CheckpointError(
            f"{file} is not valid JSON ({error}).", "Train the checkpoint again."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} is not a JSON object.", "Train the checkpoint again.")
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {config.get('format')}; this version reads format {FORMAT}.",
            "Use the bora version that wrote it, or train again.",
        )
    return config


def read_part(path: Path, name: str) -> dict[str, Tensor]:
    """Return the state dict of one part; raises CheckpointError if it is absent or damaged."""
    file = Path(path) / f"{name}.safetensors"
    if not file.is_file():
        have = ", ".join(read_config(path)["parts"])
        raise CheckpointError(
            f"The checkpoint {path} has no part '{name}'; it has: {have}.",
            "A critic comes with `bora train bora`." if name == "critic" else "Train it again.",
        )
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged ({error}).", "Train the checkpoint again.") from error


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
