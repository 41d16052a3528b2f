"""Training the backbone: all of it, the last blocks of its language model, or low-rank additions to all of those.

LoRA (Hu et al. 2021) on the attention projections comes from peft; the cognition tokens' rows of the embedding are
trained with it, since in a checkpoint that bora did not make they mean nothing yet.  Only `full` trains the vision
tower.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from bora_cli.errors import CheckpointError, ConfigError
from bora_cli.models.loading import COGNITION_TOKENS
from bora_cli.models.vlm import Backbone

SIZES = {"full": 0, "last_blocks": 1, "lora": 8}
"""Kinds of adaptation, with the size that each has if none is given: blocks, or rank; 0 for a kind without size."""
COGNITION = "cognition"
"""Name of the cognition tokens' embeddings among the trained tensors."""


class Adaptation(BaseModel):
    """Which part of a backbone is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["full", "last_blocks", "lora"]
    size: int = Field(ge=0, description="blocks that are trained, or rank of the additions; 0 for all of it")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what "full", "last_blocks", "last_blocks@2", "lora" or "lora@16" mean, and None for "none"."""
        if text == "none":
            return None
        kind, at, number = text.partition("@")
        sized = SIZES.get(kind, 0) > 0
        if kind not in SIZES or (at and not (sized and number.isdecimal() and int(number) > 0)):
            raise ConfigError(
                f"'{text}' is no part of a backbone to train.",
                "Expected none, full, last_blocks@N or lora@RANK.",
            )
        return cls(kind=kind, size=int(number) if at else SIZES[kind])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.kind}@{self.size}" if self.size else self.kind


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
