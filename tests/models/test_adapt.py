"""Which part of a backbone is trained, what that changes, and that it can be kept and put back."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bora_cli.errors import CheckpointError, ConfigError
from bora_cli.models.adapt import COGNITION, Adaptation, adapt, restore, trained_state
from bora_cli.models.loading import COGNITION_TOKENS
from bora_cli.models.vlm import Backbone
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
            assert any("vision" in k for k in changed)
            assert any("embed_tokens" in k for k in changed)
            continue
        if text.startswith("last"):
            assert changed
            assert all(".layers.1." in k or k.endswith(".norm.weight") for k in changed)
            assert not any("vision" in k for k in changed)
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


def test_words(saved: dict[str, Path]) -> None:
    assert Adaptation.parse("none") is None
    assert str(how("lora")) == "lora@8"
    assert str(how("last_blocks")) == "last_blocks@1"
    assert str(how("full")) == "full"
    assert how("last_blocks@3").size == 3
    for wrong in ("lora@0", "lora@x", "lora@", "full@2", "full@", "last_blocks@-1", "half"):
        with pytest.raises(ConfigError, match="is no part of a backbone to train"):
            Adaptation.parse(wrong)
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
