"""Training the backbone: all of it, the last blocks of its language model, or low-rank additions to all of those.

LoRA (Hu et al. 2021) on the attention projections comes from peft; the cognition tokens' rows of the embedding are
trained with it, since in a checkpoint that bora did not make they mean nothing yet.  Only `full` trains the vision
tower.

Weights, gradients and the optimizer's state stay in float32 whatever the switches say: a step of 1e-5 is far below the
spacing of bfloat16 numbers around a typical weight, and would be lost.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from bora_cli.errors import CheckpointError, ConfigError
from bora_cli.models.loading import COGNITION_TOKENS
from bora_cli.models.vlm import Backbone

SIZES = {"full": 0, "last_blocks": 1, "lora": 8}
"""Kinds of adaptation, with the size that each has if none is given: blocks, or rank; 0 for a kind without size."""
SWITCHES = ("bf16", "recompute")
"""What may follow, after commas."""
COGNITION = "cognition"
"""Name of the cognition tokens' embeddings among the trained tensors."""


class Adaptation(BaseModel):
    """Which part of a backbone is trained, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["full", "last_blocks", "lora"]
    size: int = Field(ge=0, description="blocks that are trained, or rank of the additions; 0 for all of it")
    bf16: bool = Field(default=False, description="multiply matrices of the backbone in bfloat16")
    recompute: bool = Field(
        default=False,
        description="keep only what enters each block, and compute the rest again on the way back",
    )

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what "full", "last_blocks@2" or "lora@16,bf16,recompute" mean, and None for "none"."""
        if text == "none":
            return None
        part, *switches = text.split(",")
        kind, at, number = part.partition("@")
        sized = SIZES.get(kind, 0) > 0
        if kind not in SIZES or (at and not (sized and number.isdecimal() and int(number) > 0)):
            raise ConfigError(
                f"'{text}' is no part of a backbone to train.",
                "Expected none, full, last_blocks@N or lora@RANK.",
            )
        if unknown := [s for s in switches if s not in SWITCHES]:
            raise ConfigError(
                f"'{unknown[0]}' in '{text}' is no way to train a backbone.",
                f"After {part} there may be {' and '.join(f',{s}' for s in SWITCHES)}.",
            )
        return cls(
            kind=kind,  # type: ignore[arg-type]
            size=int(number) if at else SIZES[kind],
            bf16="bf16" in switches,
            recompute="recompute" in switches,
        )

    def __str__(self) -> str:
        part = f"{self.kind}@{self.size}" if self.size else self.kind
        return ",".join([part, *(s for s in SWITCHES if getattr(self, s))])


def adapt(backbone: Backbone, how: Adaptation, seed: int = 0) -> dict[str, nn.Parameter]:
    """Freeze a backbone but for the part that is trained, and return that part by name.

    The backbone computes what it did before, up to rounding: what LoRA adds starts at zero.
    Raises ConfigError where peft is not installed, where there are fewer blocks, and for another architecture.
    """
    backbone.model.requires_grad_(False)
    if how.kind == "full":
        backbone.model.base_model.requires_grad_(True)  # no gradient reaches a language head that is not tied
        return _trainable(backbone)
    language = _language_model(backbone)
    if how.kind == "last_blocks":
        if how.size > len(language.layers):
            raise ConfigError(
                f"The backbone's language model has {len(language.layers)} blocks; {how.size} were to be trained.",
                f"Use last_blocks@{len(language.layers)} or fewer.",
            )
        for part in (*language.layers[-how.size :], language.norm):
            part.requires_grad_(True)
    else:
        _add_lora(language, how.size, seed)
        _train_cognition_rows(backbone)
    return _trainable(backbone)


def recompute_activations(backbone: Backbone) -> None:
    """Let every block keep its input alone and compute the rest again when gradients come (Chen et al. 2016).

    transformers does so only while a block is "training"; of the blocks themselves this is set, of what is in them not,
    so that dropout stays off.  Values and gradients do not change.
    """
    model: Any = backbone.model
    enable = getattr(
        model, "activation_checkpointing_enable", None
    )  # the other name is older, and deprecated
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    for part in backbone.model.modules():
        if isinstance(part, GradientCheckpointingLayer):
            part.training = True


def in_bf16(device: torch.device, on: bool) -> torch.autocast:
    """Return a context in which matrices are multiplied in bfloat16, or as ever.

    Raises ConfigError for a GPU that has no bfloat16; a CPU without it computes the same, slowly.
    """
    if on and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(
            f"{torch.cuda.get_device_name(device)} does not compute in bfloat16.", "Leave out ,bf16."
        )
    return torch.autocast(device.type, torch.bfloat16, enabled=on)


def trained_state(backbone: Backbone, how: Adaptation) -> dict[str, Tensor]:
    """Return the tensors that training may have changed; with LoRA, of the embedding the cognition tokens' rows."""
    table = _table(backbone)
    rows_only = how.kind == "lora"
    state = {
        name: p.detach().clone() for name, p in _trainable(backbone).items() if not (rows_only and p is table)
    }
    if rows_only:
        state[COGNITION] = table.detach()[_cognition_ids(backbone)].clone()
    return state


@torch.no_grad()
def restore(backbone: Backbone, how: Adaptation, state: dict[str, Tensor]) -> None:
    """Give a backbone the tensors of `trained_state`; raises CheckpointError if they are of another backbone."""
    parameters: dict[str, Tensor] = dict(adapt(backbone, how))
    table = _table(backbone)
    if how.kind == "lora":
        parameters = {k: p for k, p in parameters.items() if p is not table}
        parameters[COGNITION] = table[_cognition_ids(backbone)]
    if parameters.keys() != state.keys() or any(p.shape != state[k].shape for k, p in parameters.items()):
        raise CheckpointError(
            f"The trained part of the backbone ({how}) does not fit the backbone.",
            "Restore the backbone it was trained on, or train again.",
        )
    for name, value in state.items():
        if name == COGNITION:
            table[_cognition_ids(backbone)] = value
        else:
            parameters[name].copy_(value)


def _trainable(backbone: Backbone) -> dict[str, nn.Parameter]:
    return {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}


def _table(backbone: Backbone) -> nn.Parameter:
    """Return the embedding of the vocabulary."""
    weight: Any = backbone.model.get_input_embeddings().weight
    table: nn.Parameter = weight
    return table


def _language_model(backbone: Backbone) -> Any:
    base = backbone.model.base_model
    for name in ("text_model", "language_model"):
        language = getattr(base, name, None)
        if hasattr(language, "layers") and hasattr(language, "norm"):
            return language
    raise ConfigError(
        f"A {backbone.model.config.model_type} has no language model whose blocks are known here.",
        "Leave its backbone frozen.",
    )


def _add_lora(language: nn.Module, rank: int, seed: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            "LoRA needs peft, which is not installed.", "Install it: pip install 'bora-cli[lora]'."
        ) from error
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), language)


def _train_cognition_rows(backbone: Backbone) -> None:
    """Let gradients into the embedding, at the cognition tokens' rows only."""
    table = _table(backbone)
    rows = torch.zeros(len(table), 1, dtype=table.dtype, device=table.device)
    rows[_cognition_ids(backbone)] = 1
    table.requires_grad_(True)
    table.register_hook(lambda gradient: gradient * rows)


def _cognition_ids(backbone: Backbone) -> list[int]:
    words = backbone.processor.tokenizer
    return [int(words.convert_tokens_to_ids(t)) for t in COGNITION_TOKENS]
