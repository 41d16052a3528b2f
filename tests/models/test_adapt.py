"""Which part of a backbone is trained, what that changes, and that it can be kept and put back."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bora_cli.errors import CheckpointError, ConfigError
from bora_cli.models.adapt import (
    COGNITION,
    Adaptation,
    adapt,
    in_bf16,
    recompute_activations,
    restore,
    trained_state,
)
from bora_cli.models.loading import COGNITION_TOKENS
from bora_cli.models.vlm import Backbone, build_tiny
from small_vlms import FAMILIES, PROMPTS, save_family

KINDS = ("full", "last_blocks@1", "lora@4")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapt")
    return {name: save_family(name, root / name) for name in FAMILIES}


def pictures(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 2, 32, 32, 3), dtype=np.uint8)


def how(text: str) -> Adaptation:
    found = Adaptation.parse(text)
    assert found is not None
    return found


def train_a_little(backbone: Backbone, text: str) -> None:
    parameters = list(adapt(backbone, how(text)).values())
    optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.0)
    for _ in range(2):  # the second half of what LoRA adds moves first, then the first half
        backbone.encode(pictures(2), PROMPTS[:2], grad=True).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("text", KINDS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_is_trained_is_kept_and_put_back(family: str, text: str, saved: dict[str, Path]) -> None:
    """From the untouched checkpoint and the trained part alone, the very same tokens."""
    trained = Backbone.load(saved[family])
    before = trained.encode(pictures(2), PROMPTS[:2])
    adapt(trained, how(text))
    torch.testing.assert_close(trained.encode(pictures(2), PROMPTS[:2]), before, atol=1e-6, rtol=0)

    trained = Backbone.load(saved[family])
    train_a_little(trained, text)
    after = trained.encode(pictures(2), PROMPTS[:2])
    assert not torch.allclose(after, before, atol=1e-3)
    again = Backbone.load(saved[family])
    restore(again, how(text), trained_state(trained, how(text)))
    assert again.hash == trained.hash
    assert torch.equal(again.encode(pictures(2), PROMPTS[:2]), after)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_nothing_else_moves(family: str, saved: dict[str, Path]) -> None:
    """Unless all is trained: vision, other blocks, and all rows of the embedding but four stay bit for bit."""
    plain = Backbone.load(saved[family])
    original = {k: v.clone() for k, v in plain.model.state_dict().items()}
    for text in KINDS:
        backbone = Backbone.load(saved[family])
        train_a_little(backbone, text)
        found = {k.replace(".base_layer", ""): v for k, v in backbone.model.state_dict().items()}
        changed = {k for k, v in original.items() if not torch.equal(v, found[k])}
        if text == "full":
            assert any("vision" in k or "visual" in k for k in changed)
            assert any("embed_tokens" in k for k in changed)
            continue
        if text.startswith("last"):
            assert changed
            assert all(".layers.1." in k or k.endswith(".norm.weight") for k in changed)
            assert not any("vision" in k or "visual" in k for k in changed)
            continue
        assert all("embed_tokens" in k or "lm_head" in k for k in changed)
        table = plain.model.get_input_embeddings().weight
        rows = (backbone.model.get_input_embeddings().weight != table).any(1).nonzero().flatten().tolist()
        words = plain.processor.tokenizer
        assert rows == sorted(words.convert_tokens_to_ids(t) for t in COGNITION_TOKENS)


def test_the_trained_part_is_small(saved: dict[str, Path]) -> None:
    backbone = Backbone.load(saved["paligemma2"])
    adapt(backbone, how("lora@2"))
    state = trained_state(backbone, how("lora@2"))
    assert state[COGNITION].shape == (4, 32)
    assert len(state) == 1 + 2 * 4 * 2  # two matrices for each of four projections in two blocks
    assert sum(v.numel() for v in state.values()) < 0.05 * sum(p.numel() for p in backbone.model.parameters())


@pytest.mark.parametrize("family", [*sorted(FAMILIES), "tiny"])
def test_recomputed_activations_change_neither_loss_nor_gradients(
    family: str, saved: dict[str, Path]
) -> None:
    """And there is less to keep; dropout stays off although the blocks believe that they are being trained."""

    def there_and_back(text: str) -> tuple[Tensor, dict[str, Tensor], int]:
        backbone = build_tiny(PROMPTS, 0, image_size=32) if family == "tiny" else Backbone.load(saved[family])
        parameters = adapt(backbone, how(text))
        if how(text).recompute:
            recompute_activations(backbone)
        kept: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = backbone.encode(pictures(3), PROMPTS, grad=True).square().mean()
        loss.backward()
        assert not any(m.training for m in backbone.modules() if isinstance(m, nn.Dropout))
        weights = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
        size = sum(n for at, n in kept.items() if at not in weights)
        return loss.detach(), {k: p.grad for k, p in parameters.items() if p.grad is not None}, size

    loss, gradients, size = there_and_back("full")
    again, same, less = there_and_back("full,recompute")
    torch.testing.assert_close(again, loss, atol=0, rtol=1e-6)
    assert same.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    assert less < 0.8 * size


def test_in_bf16_weights_and_gradients_stay_in_full_precision(saved: dict[str, Path]) -> None:
    for family in sorted(FAMILIES):
        backbone = Backbone.load(saved[family])
        parameters = adapt(backbone, how("full,bf16"))
        z = backbone.encode(pictures(2), PROMPTS[:2])
        with in_bf16(torch.device("cpu"), True):
            rounded = backbone.encode(pictures(2), PROMPTS[:2], grad=True)
        assert rounded.dtype == torch.float32
        assert not torch.equal(rounded, z)
        torch.testing.assert_close(rounded, z, atol=0.2, rtol=0.1)
        rounded.square().mean().backward()
        gradients = [p.grad for p in parameters.values() if p.grad is not None]
        assert gradients
        assert {g.dtype for g in gradients} == {torch.float32}


def test_a_gpu_without_bf16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old Card")
    with pytest.raises(ConfigError, match=r"Old Card does not compute in bfloat16\. Leave out ,bf16"):
        in_bf16(torch.device("cuda"), True)


def test_words(saved: dict[str, Path]) -> None:
    assert Adaptation.parse("none") is None
    assert str(how("lora")) == "lora@8"
    assert str(how("last_blocks")) == "last_blocks@1"
    assert str(how("full")) == "full"
    assert how("last_blocks@3").size == 3
    for wrong in ("lora@0", "lora@x", "lora@", "full@2", "full@", "last_blocks@-1", "half"):
        with pytest.raises(ConfigError, match="is no part of a backbone to train"):
            Adaptation.parse(wrong)
    assert str(how("lora,recompute,bf16")) == "lora@8,bf16,recompute"
    assert how(str(how("full,bf16"))) == how("full,bf16")
    with pytest.raises(ConfigError, match=r"'fp8' in 'full,fp8' is no way .* be ,bf16 and ,recompute"):
        Adaptation.parse("full,fp8")
    with pytest.raises(ConfigError, match="'none,bf16' is no part of a backbone to train"):
        Adaptation.parse("none,bf16")
    with pytest.raises(ConfigError, match=r"has 2 blocks; 3 were to be trained\. Use last_blocks@2 or fewer"):
        adapt(Backbone.load(saved["smolvlm"]), how("last_blocks@3"))


def test_a_trained_part_of_another_backbone_is_refused(saved: dict[str, Path]) -> None:
    backbone = Backbone.load(saved["idefics3"])
    adapt(backbone, how("lora@4"))
    with pytest.raises(CheckpointError, match=r"trained part of the backbone \(lora@4\) does not fit"):
        restore(Backbone.load(saved["paligemma2"]), how("lora@4"), trained_state(backbone, how("lora@4")))


def test_without_peft_there_is_one_message(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"LoRA needs peft.*pip install 'bora-cli\[lora\]'"):
        adapt(Backbone.load(saved["idefics3"]), how("lora"))
