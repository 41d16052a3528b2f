"""Pre-train the tiny backbone on rendered scenes whose labels are free.

Half of what a small policy needs is to know where things are; a simulator can say so for nothing.  Two heads look
at the exported tokens: a linear one predicts the labels of the object that the *prompt* names (so the instruction
decides where there are several), and the model's own language head answers questions in one word.  Neither head is
kept.  Held-out kinds, hues and sizes never occur in these scenes.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bora_cli.algos.schedules import cosine
from bora_cli.data.files import write_json
from bora_cli.errors import TrainingDiverged
from bora_cli.evaluate.workers import Workers
from bora_cli.models.nn import polyak_update
from bora_cli.models.vlm import Backbone, build_tiny
from bora_cli.seeds import scene_seeds, stream
from bora_cli.sim.labelled_scenes import ANSWERS, VOCABULARY, LabelledScenes, labelled_scenes
from bora_cli.sim.render import Renderer
from bora_cli.train.state import load_state, save_state
from bora_cli.train.tokens import augment
from bora_cli.types import U8

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

SCENES_PER_SHARD = 50
SAVE_EVERY_S = 60.0
WEIGHTS = {
    "target": 3.0,
    "relative": 3.0,
    "zoomed": 3.0,
    "scene": 3.0,
    "wrist": 3.0,
    "turn": 2.0,
    "bin": 2.0,
    "kind": 0.3,
}
"""Weight of a label in the loss by the first word of its name, 1 elsewhere: where things are matters most."""


@dataclass(frozen=True)
class PretrainConfig:
    """How the backbone is pre-trained.

    scenes x states: rendered image pairs.  question_share: rows of a batch that carry a question instead of an
    instruction.  averaging: rate at which the exported (averaged) weights follow the trained ones.
    """

    scenes: int = 6000
    states: int = 6
    held_out_scenes: int = 100
    updates: int = 9000
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    question_share: float = 0.3
    averaging: float = 0.005
    seed: int = 0


class Heads(nn.Module):
    """Linear read-out of labels from tokens and proprioception."""

    def __init__(self, backbone: Backbone, state_dim: int, labels: int) -> None:
        super().__init__()
        self.labels = nn.Linear(backbone.n_tokens * backbone.width + state_dim, labels)

    def forward(self, tokens: Tensor, state: Tensor) -> Tensor:
        """Return label predictions [B, L] from tokens [B, N, W] and state [B, S]."""
        out: Tensor = self.labels(torch.cat([tokens.flatten(1), state], dim=-1))
        return out


def pretrain(
    out: Path,
    config: PretrainConfig | None = None,
    *,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pre-train a tiny backbone into `out` (a transformers directory) and return its report.

    Continues an interrupted run: rendered shards and the training state are kept in `out`/work until the end.
    """
    config = config or PretrainConfig()
    out = Path(out)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    pool = workers or Workers(1)
    train = _render(work, config.scenes, config, pool, progress, start=0)
    held_out = _render(work, config.held_out_scenes, config, pool, progress, start=1000)

    backbone = build_tiny(VOCABULARY, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        heads = Heads(backbone, train.state.shape[1], len(train.label_names))
    averaged, averaged_heads = deepcopy(backbone.model), deepcopy(heads)
    model = nn.ModuleDict({"model": backbone.model, "heads": heads})
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rng, generator = stream("pretrain", config.seed), torch.Generator()
    modules = {
        "model": backbone.model,
        "heads": heads,
        "averaged": averaged,
        "averaged_heads": averaged_heads,
    }
    state_file = work / "state.safetensors"
    first = load_state(state_file, modules, optimizer, rng, generator, asdict(config))

    answer_ids = torch.tensor([backbone.processor.tokenizer.convert_tokens_to_ids(a) for a in ANSWERS])
    saved = time.monotonic()
    backbone.model.train()
    for update in range(first, config.updates):
        for group in optimizer.param_groups:
            group["lr"] = cosine(update, config.lr, config.updates, config.warmup)
        rows = rng.integers(0, len(train.prompt), config.batch)
        loss = _loss(backbone, heads, train, rows, rng, answer_ids, config)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"The pre-training loss became {loss.item()} at update {update}.", "Lower the learning rate."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate = max(config.averaging, 1 / (update + 1))
        polyak_update(averaged, backbone.model, rate)
        polyak_update(averaged_heads, heads, rate)
        if progress is not None:
            progress("pretrain", update + 1, config.updates)
        if time.monotonic() - saved > SAVE_EVERY_S:
            save_state(state_file, update + 1, modules, optimizer, rng, generator, asdict(config))
            saved = time.monotonic()

    backbone.model.load_state_dict(averaged.state_dict())
    backbone.model.eval()
    report = {
        "config": asdict(config),
        "seconds": round(time.monotonic() - started, 1),
        "hash": backbone.hash,
        "held_out": measure(backbone, averaged_heads, held_out, answer_ids),
    }
    backbone.save(out)
    write_json(out / "pretrain.json", report)
    shutil.rmtree(work)
    return report


def _loss(
    backbone: Backbone,
    heads: Heads,
    data: LabelledScenes,
    rows: np.ndarray[Any, Any],
    rng: np.random.Generator,
    answer_ids: Tensor,
    config: PretrainConfig,
) -> Tensor:
    """Return smooth-L1 on the labels of the rows with an instruction plus cross-entropy of the answers."""
    asked = rng.random(len(rows)) < config.question_share
    prompts = [data.question[i] if q else data.prompt[i] for i, q in zip(rows, asked, strict=True)]
    tokens = backbone.encode(augment(stack_cameras(data, backbone, rows), rng, shift=0), prompts, grad=True)
    told = torch.from_numpy(~asked)
    state = torch.from_numpy(data.state[rows])
    error = nn.functional.smooth_l1_loss(
        heads(tokens, state), torch.from_numpy(data.labels[rows]), reduction="none", beta=0.1
    )
    weight = torch.tensor([WEIGHTS.get(name.partition("_")[0], 1.0) for name in data.label_names])
    valid = torch.from_numpy(data.label_mask[rows]).float() * told[:, None] * weight
    loss: Tensor = (error * valid).sum() / valid.sum().clamp(min=1.0) * 10
    if asked.any():
        answers = torch.tensor([ANSWERS.index(data.answer[i]) for i in rows[asked]])
        loss = loss + 0.1 * nn.functional.cross_entropy(
            _answers(backbone, tokens[~told], answer_ids), answers
        )
    return loss


def _answers(backbone: Backbone, tokens: Tensor, answer_ids: Tensor) -> Tensor:
    """Return logits [B, answers] of the model's language head at the last cognition token."""
    logits: Tensor = backbone.model.get_output_embeddings()(tokens[:, 3])
    return logits[:, answer_ids]


@torch.no_grad()
def measure(
    backbone: Backbone, heads: Heads, data: LabelledScenes, answer_ids: Tensor, batch: int = 256
) -> dict[str, Any]:
    """Return mean absolute label errors and the share of right answers on scenes not trained on."""
    predicted, right = [], []
    for i in range(0, len(data.prompt), batch):
        rows = np.arange(i, min(i + batch, len(data.prompt)))
        images = stack_cameras(data, backbone, rows)
        tokens = backbone.encode(images, [data.prompt[j] for j in rows])
        predicted.append(heads(tokens, torch.from_numpy(data.state[rows])).numpy())
        asked = backbone.encode(images, [data.question[j] for j in rows])
        said = _answers(backbone, asked, answer_ids).argmax(1).numpy()
        right += [ANSWERS[k] == data.answer[j] for k, j in zip(said, rows, strict=True)]
    error = np.abs(np.concatenate(predicted) - data.labels)
    count = data.label_mask.sum(0)
    means = (error * data.label_mask).sum(0) / np.maximum(count, 1)
    spread = [
        float(np.abs(column[m] - np.median(column[m])).mean()) if m.any() else 0.0
        for column, m in zip(data.labels.T, data.label_mask.T, strict=True)
    ]
    names = data.label_names
    return {
        "pairs": len(data.prompt),
        "answers_right": float(np.mean(right)),
        "label_error": {n: round(float(e), 4) for n, e in zip(names, means, strict=True)},
        "label_error_of_the_median": {n: round(s, 4) for n, s in zip(names, spread, strict=True)},
    }


def stack_cameras(data: LabelledScenes, backbone: Backbone, rows: np.ndarray[Any, Any]) -> U8:
    """Return images uint8 [n, C, h, w, 3] in the backbone's camera order."""
    return np.stack([data.images[c][rows] for c in backbone.cameras], axis=1)


def _render(
    work: Path, scenes: int, config: PretrainConfig, pool: Workers, progress: Progress | None, start: int
) -> LabelledScenes:
    """Return labelled scenes, rendering the shards that are not there yet."""
    shards = -(-scenes // SCENES_PER_SHARD)
    first = scene_seeds("pretrain", config.seed % 50, 1)[0] + start
    files = [work / f"scenes-{first + i}-{config.states}.npz" for i in range(shards)]
    jobs = [(str(f), first + i, config.states) for i, f in enumerate(files) if not f.is_file()]
    for done, _ in enumerate(pool.map(render_shard, jobs), 1):
        if progress is not None:
            progress("render", shards - len(jobs) + done, shards)
    return _join([_read(f) for f in files])


def render_shard(job: tuple[str, int, int]) -> None:
    """Render one shard of labelled scenes into a file: (path, seed, states per scene)."""
    path, seed, states = job
    with Renderer() as renderer:
        data = labelled_scenes(seed, SCENES_PER_SHARD, states, renderer)
    arrays: dict[str, Any] = {f"image_{k}": v for k, v in data.images.items()}
    arrays |= {k: getattr(data, k) for k in ("state", "labels", "label_mask")}
    words = {k: list(getattr(data, k)) for k in ("prompt", "label_names", "question", "answer")}
    fresh = Path(path).with_suffix(".tmp")
    with fresh.open("wb") as file:
        np.savez(file, words=np.array(json.dumps(words)), **arrays)
    fresh.replace(path)


def _read(path: Path) -> LabelledScenes:
    with np.load(path) as file:
        words = json.loads(str(file["words"]))
        return LabelledScenes(
            images={k.removeprefix("image_"): file[k] for k in file.files if k.startswith("image_")},
            state=file["state"],
            labels=file["labels"],
            label_mask=file["label_mask"],
            **words,
        )


def _join(parts: list[LabelledScenes]) -> LabelledScenes:
    first = parts[0]
    return LabelledScenes(
        images={k: np.concatenate([p.images[k] for p in parts]) for k in first.images},
        state=np.concatenate([p.state for p in parts]),
        prompt=[t for p in parts for t in p.prompt],
        labels=np.concatenate([p.labels for p in parts]),
        label_mask=np.concatenate([p.label_mask for p in parts]),
        label_names=first.label_names,
        question=[t for p in parts for t in p.question],
        answer=[t for p in parts for t in p.answer],
    )
