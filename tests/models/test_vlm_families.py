"""Real families, random weights: from the files of a checkpoint to the last hidden states, and back into files."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from bora_cli.errors import CheckpointError
from bora_cli.models.loading import COGNITION_TOKENS, quiet
from bora_cli.models.vlm import Backbone
from small_vlms import FAMILIES, PROMPTS, save_family, tokenizer


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a test tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: save_family(name, root / name) for name in FAMILIES}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backbone(family: str, saved: dict[str, Path]) -> Backbone:
    return Backbone.load(saved[family], cameras=("left", "right"))


def pictures(n: int, size: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 2, size, size, 3), dtype=np.uint8)


def test_tokens_have_the_promised_shape(backbone: Backbone) -> None:
    z = backbone.encode(pictures(3), PROMPTS)
    assert z.shape == (3, backbone.n_tokens, backbone.width) == (3, 6, 32)
    assert z.dtype == torch.float32
    assert not z.requires_grad


def test_a_batch_equals_its_rows(backbone: Backbone) -> None:
    """The prompts have different lengths, and the checkpoints pad on the right."""
    images = pictures(3)
    alone = torch.cat([backbone.encode(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(backbone.encode(images, PROMPTS), alone, atol=1e-5, rtol=1e-5)


def own_inputs(folder: Path, image: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    with quiet():
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    text = "<image><image> " + PROMPTS[0] + " " + "".join(COGNITION_TOKENS)
    batch = processor(text=[text], images=[list(image[0].transpose(0, 3, 1, 2))], return_tensors="np")
    return {k: torch.as_tensor(v) for k, v in batch.items() if k != "labels"}


def qwen_inputs(folder: Path, image: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """Its processor does not load here: by hand, from its image processor, its tokenizer and its form of a prompt."""
    images = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    found = images(images=list(image[0].transpose(0, 3, 1, 2)), return_tensors="pt")
    assert found["image_grid_thw"].tolist() == [[1, 4, 4], [1, 4, 4]]  # sixteen patches, merged by fours
    picture = "<|vision_start|>" + 4 * "<|image_pad|>" + "<|vision_end|>"
    batch = words(2 * picture + " " + PROMPTS[0] + " " + "".join(COGNITION_TOKENS), return_tensors="pt")
    pads = batch["input_ids"] == words.convert_tokens_to_ids("<|image_pad|>")
    return {**batch, **found, "mm_token_type_ids": pads.long()}


def test_it_is_what_the_family_itself_computes(
    family: str, backbone: Backbone, saved: dict[str, Path], tmp_path: Path
) -> None:
    """One row without padding, through the saved processor and model, with nothing of ours in between."""
    backbone.save(tmp_path)
    with quiet():
        model = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True).eval()
    image = pictures(1)
    batch = (qwen_inputs if family.startswith("qwen") else own_inputs)(tmp_path, image)
    with torch.no_grad():
        hidden = model.model(**batch).last_hidden_state[0]
    ids = batch["input_ids"][0].tolist()
    words = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    where = [ids.index(words.convert_tokens_to_ids(t)) for t in COGNITION_TOKENS]
    z = backbone.encode(image, PROMPTS[:1])[0]
    torch.testing.assert_close(z[:4], hidden[where], atol=1e-5, rtol=1e-5)
    seen = [i for i, token in enumerate(ids) if token == model.config.image_token_id]
    assert len(seen) == 8  # four per picture: nothing was cut into tiles
    torch.testing.assert_close(z[4], hidden[seen[:4]].mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(z[5], hidden[seen[4:]].mean(0), atol=1e-5, rtol=1e-5)


def test_instruction_and_cameras_matter_and_masks_are_the_families_own(
    family: str, backbone: Backbone
) -> None:
    """PaliGemma's image tokens see the instruction behind them; the other families are causal."""
    images = pictures(1)
    z, other = backbone.encode(images, PROMPTS[:1]), backbone.encode(images, PROMPTS[1:2])
    swapped = backbone.encode(np.ascontiguousarray(images[:, ::-1]), PROMPTS[:1])
    assert not torch.allclose(z[:, :4], other[:, :4], atol=1e-4)
    assert not torch.allclose(z, swapped, atol=1e-4)
    assert torch.allclose(z[:, 4:], other[:, 4:], atol=1e-6) == (family != "paligemma2")


def test_round_trip_is_bit_exact(backbone: Backbone, tmp_path: Path) -> None:
    backbone.save(tmp_path)
    again = Backbone.load(tmp_path)
    assert (again.hash, again.cameras) == (backbone.hash, ("left", "right"))
    assert torch.equal(again.encode(pictures(3), PROMPTS), backbone.encode(pictures(3), PROMPTS))
    assert not list(tmp_path.glob("*.bin"))


def test_loading_twice_gives_the_same_and_leaves_the_global_stream(
    family: str, saved: dict[str, Path]
) -> None:
    """New rows of the embedding are drawn, but always the same."""
    before = torch.random.get_rng_state()
    first, second = (Backbone.load(saved[family]) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.hash == second.hash


def test_half_precision_takes_full_precision_images(family: str, saved: dict[str, Path]) -> None:
    full = Backbone.load(saved[family])
    half = Backbone.load(saved[family])
    half.model.to(torch.bfloat16)  # type: ignore[arg-type]
    z, rounded = (b.encode(pictures(2), PROMPTS[:2]) for b in (full, half))
    assert rounded.dtype == torch.float32
    assert not torch.equal(z, rounded)
    torch.testing.assert_close(rounded, z, atol=0.2, rtol=0.1)


def test_gradient_reaches_images_text_and_cognition_tokens(family: str, saved: dict[str, Path]) -> None:
    backbone = Backbone.load(saved[family])
    backbone.encode(pictures(1), PROMPTS[:1], grad=True).square().sum().backward()
    table = backbone.model.get_input_embeddings().weight
    assert table.grad is not None
    cognition = [backbone.processor.tokenizer.convert_tokens_to_ids(t) for t in COGNITION_TOKENS]
    assert float(table.grad[cognition].abs().sum(1).min()) > 0
    vision = [
        p
        for n, p in backbone.model.named_parameters()
        if ("vision" in n and "layers.0" in n) or "visual.blocks.0" in n
    ]
    assert vision
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in vision if p.ndim > 1)


def test_positions_of_qwen_are_in_rows_and_columns(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted through, as for the other families, its pictures would stand where it never saw one."""
    backbone = Backbone.load(saved["qwen2_5_vl"])
    prepared = backbone._processor_inputs(torch.as_tensor(pictures(1)), PROMPTS[:1])
    assert "position_ids" not in prepared
    z = backbone.encode(pictures(1), PROMPTS[:1])
    counted = prepared | {"position_ids": prepared["attention_mask"].cumsum(-1) - 1}
    monkeypatch.setattr(backbone, "_processor_inputs", lambda *_: counted)
    assert not torch.allclose(backbone.encode(pictures(1), PROMPTS[:1]), z, atol=1e-4)


# --------------------------------------------------------------------------------------------- bad input


def broken(saved: dict[str, Path], out: Path, name: str = "idefics3") -> Path:
    return Path(shutil.copytree(saved[name], out))


def test_a_missing_processor_file_is_named(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = broken(saved, tmp_path / "x", "paligemma2")
    (folder / "processor_config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"The processor of backbone .*x.*Expected processor_config\.json|no im"
    ):
        Backbone.load(folder)


def test_missing_tokenizer_files_are_named(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = broken(saved, tmp_path / "x")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        CheckpointError, match=r"The processor of backbone .*x could not be loaded|has no tokenizer"
    ):
        Backbone.load(folder)


def test_a_model_of_text_alone_is_refused(tmp_path: Path) -> None:
    words = tokenizer(())
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with quiet():
        LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no image_processor and no tokenizer"):
        Backbone.load(tmp_path)


def test_a_model_that_does_not_write_images_into_the_prompt_is_refused(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Idefics3Model

    monkeypatch.delattr(Idefics3Model, "get_image_features")
    with pytest.raises(CheckpointError, match="is a idefics3 without image tokens in its text"):
        Backbone.load(saved["idefics3"])


def test_weights_that_are_not_there_are_not_invented(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = broken(saved, tmp_path / "x")
    tensors = load_file(folder / "model.safetensors")
    gone = next(k for k in tensors if "text_model.layers.1.mlp.up_proj" in k)
    save_file({k: v for k, v in tensors.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"lacks 1 weights that its configuration needs, first model\.text"
    ):
        Backbone.load(folder)


def test_weights_of_another_shape_are_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = broken(saved, tmp_path / "x")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 48
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="could not be loaded"):
        Backbone.load(folder)
