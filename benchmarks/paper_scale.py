"""Memory and time of training at the paper's scale, computed: a PaliGemma 2 of 3 B, pictures of 224 px, chunks of 32.

    python benchmarks/paper_scale.py

Nothing is downloaded and no weight exists: the blocks of transformers' own model run on the meta device, where
operations are counted and what autograd keeps is measured, with one and with two blocks; the difference is one block.
Speed is peak speed times a utilisation that is assumed, not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma2Model, PaliGemmaConfig, PaliGemmaForConditionalGeneration, SiglipVisionModel

from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.loading import COGNITION_TOKENS
from bora_cli.models.nn import Sizes

TEXT = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "vocab_size": 257_216,
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "vision_use_head": False,
}
"""The published sizes of paligemma2-3b-pt-224."""
PICTURE_TOKENS = 256
CHUNK, ACTION, STATE = 32, 18, 33
GB = 1e9
MASTER, GRADIENT, ADAM, CAST = 4, 4, 8, 2
"""Bytes per weight: float32 weights, gradients and moments, and the bfloat16 copy that a pass makes of each weight."""
DEVICES = {"H100": 989e12, "A100": 312e12}
"""Peak speed in bfloat16 without sparsity, operations per second, by the maker."""


@dataclass(frozen=True)
class Cost:
    """What a stack of equal blocks costs per pass there and back.

    fixed, block: bytes that autograd keeps outside of the blocks and in each; entering: bytes that enter a block.
    flops_fixed, flops_block: operations forward, outside of the blocks and in each; blocks: how many there are.
    """

    fixed: int
    block: int
    entering: int
    flops_fixed: int
    flops_block: int
    blocks: int

    def kept(self, recompute: bool, trained: int | None = None) -> int:
        """Return the bytes kept at the peak; trained: how many of the last blocks get gradients, all if None."""
        blocks = self.blocks if trained is None else trained
        fixed = self.fixed if trained is None else 0
        if not blocks:
            return fixed
        return fixed + (blocks * self.entering + self.block if recompute else blocks * self.block)

    @property
    def forward(self) -> int:
        """Operations of the forward pass."""
        return self.flops_fixed + self.blocks * self.flops_block


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--batch", type=int, default=8, help="windows per GPU and update (the paper: 8 on each of 8)"
    )
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument(
        "--words", type=int, default=24, help="tokens of the instruction, cognition tokens included"
    )
    parser.add_argument(
        "--gpus", type=int, default=8, help="over which FSDP spreads weights, gradients and moments"
    )
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of the peak speed, assumed")
    given = parser.parse_args()
    config = PaliGemmaConfig(
        text_config=TEXT,
        vision_config=VISION | {"projection_dim": 2304},
        projection_dim=2304,
        hidden_size=2304,
    )
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    weights = count(model.model.parameters())
    tower = count(model.model.vision_tower.parameters()) + count(
        model.model.multi_modal_projector.parameters()
    )
    one = count(model.model.language_model.layers[0].parameters())
    length = given.cameras * PICTURE_TOKENS + given.words
    batch, single = (costs(config, n, given.cameras, length) for n in (given.batch, 1))
    print(
        f"Weights: {weights / GB:.2f} B, of which pictures {tower / GB:.2f} B, a language block {one / 1e6:.0f} M;"
    )
    print(f"head (width 1024, 6 blocks, chunk {CHUNK}): {head_weights(given.cameras) / 1e6:.0f} M.")
    print(f"{length} tokens per window, {given.batch} windows per GPU, {given.gpus} GPUs.\n")
    print(table(weights, one, batch, given))
    forward = sum(c.forward for c in single)
    times = ", ".join(f"{d} {1e3 * forward / (given.utilisation * s):.0f} ms" for d, s in DEVICES.items())
    share = f"{given.utilisation:.0%} of the peak"
    print(f"\nOne decision: {forward / 1e12:.1f} T operations in the backbone; at {share} {times}.")


def costs(config: PaliGemmaConfig, batch: int, cameras: int, length: int) -> tuple[Cost, Cost]:
    """Return what the vision tower and the language model cost for a batch, in bfloat16."""

    def vision(blocks: int) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
        settings = _with(config.vision_config, blocks)
        pixels = torch.empty(batch * cameras, 3, 224, 224, device="meta", dtype=torch.bfloat16)
        return SiglipVisionModel(settings), lambda m: m(pixel_values=pixels).last_hidden_state

    def language(blocks: int) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
        settings = _with(config.text_config, blocks)
        embedded = torch.empty(batch, length, settings.hidden_size, device="meta", dtype=torch.bfloat16)
        seen = torch.empty(batch, 1, length, length, device="meta", dtype=torch.bfloat16)
        inputs = {
            "inputs_embeds": embedded.requires_grad_(),
            "position_ids": torch.arange(length, device="meta")[None],
            "attention_mask": {"full_attention": seen, "sliding_attention": seen},  # as PaliGemma gives it
        }
        return Gemma2Model(settings), lambda m: m(**inputs, use_cache=False).last_hidden_state

    rows = batch * cameras * PICTURE_TOKENS, batch * length
    return (
        measured(vision, 27, rows[0] * config.vision_config.hidden_size * 2),
        measured(language, 26, rows[1] * config.text_config.hidden_size * 2),
    )


def measured(
    build: Callable[[int], tuple[nn.Module, Callable[[nn.Module], Tensor]]], blocks: int, entering: int
) -> Cost:
    """Return the cost of a stack from its versions with one and two blocks."""
    (kept1, flops1), (kept2, flops2) = (passed(build, n) for n in (1, 2))
    return Cost(
        fixed=2 * kept1 - kept2,
        block=kept2 - kept1,
        entering=entering,
        flops_fixed=2 * flops1 - flops2,
        flops_block=flops2 - flops1,
        blocks=blocks,
    )


def passed(
    build: Callable[[int], tuple[nn.Module, Callable[[nn.Module], Tensor]]], blocks: int
) -> tuple[int, int]:
    """Return bytes that autograd keeps, weights left out, and operations forward."""
    with torch.device("meta"):
        module, forward = build(blocks)
    module.to(torch.bfloat16)
    weights = {p.untyped_storage()._cdata for p in module.parameters()}
    kept: dict[
        int, Tensor
    ] = {}  # by storage; views share one, and holding the tensor keeps the number from another

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage()._cdata not in weights:
            kept.setdefault(x.untyped_storage()._cdata, x)
        return x

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        out = forward(module)
    del out
    return sum(x.untyped_storage().nbytes() for x in kept.values()), counter.get_total_flops()


def table(weights: int, block: int, costs_of: tuple[Cost, Cost], given: argparse.Namespace) -> str:
    """Return memory per GPU and time per update for each way of training, as Markdown."""
    names = ["trained", "recompute", "weights", "gradients, moments", "activations", "sum", *DEVICES]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    vision, language = costs_of
    forward = vision.forward + language.forward
    for name, blocks in (("full", None), ("last_blocks@4", 4)):
        trained = weights if blocks is None else blocks * block
        for recompute in (False, True):
            shared = given.gpus if blocks is None else 1  # a few blocks fit everywhere
            fixed = (MASTER * weights) / shared + CAST * weights
            moving = (GRADIENT + ADAM) * trained / shared
            kept = vision.kept(recompute, None if blocks is None else 0) + language.kept(recompute, blocks)
            # back: twice the operations of what is trained, and once more forward where it is computed again
            through = forward if blocks is None else blocks * language.flops_block
            operations = forward + 2 * through + (through if recompute else 0)
            cells = [name, "yes" if recompute else "no"]
            cells += [f"{b / GB:.1f} GB" for b in (fixed, moving, kept, fixed + moving + kept)]
            cells += [f"{operations / (given.utilisation * speed):.2f} s" for speed in DEVICES.values()]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def head_weights(cameras: int) -> int:
    """Return the size of a consistency head on the tokens of this backbone."""
    sizes = Sizes(
        n_tokens=len(COGNITION_TOKENS) + cameras,
        token_width=TEXT["hidden_size"],
        state_dim=STATE,
        action_dim=ACTION,
        horizon=CHUNK,
    )
    return count(ConsistencyExpert(ConsistencyConfig(sizes=sizes, width=1024, blocks=6)).parameters())


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Return how many numbers there are."""
    return sum(p.numel() for p in parameters)


def _with(config: Any, blocks: int) -> Any:
    """Return a configuration with another number of blocks."""
    other = deepcopy(config)
    other.num_hidden_layers = blocks
    if getattr(other, "layer_types", None):
        other.layer_types = other.layer_types[:blocks]
    return other


if __name__ == "__main__":
    main()
