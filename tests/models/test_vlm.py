"""The backbone: round trips, batching, gradients, messages."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from bora_cli.errors import CheckpointError, ConfigError, SchemaMismatch
from bora_cli.models.tower import register_vision_tower
from bora_cli.models.vlm import COGNITION_TOKENS, Backbone, build_tiny

PROMPTS = ["pick up the toy", "open the box", "press the red button now please", "juggle the toy"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a test tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return build_tiny(PROMPTS[:3], seed=3)


def pictures(n: int, cameras: int = 2, size: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, cameras, size, size, 3), dtype=np.uint8)


def test_tokens_have_the_promised_shape(tiny: Backbone) -> None:
    z = tiny.encode(pictures(4), PROMPTS)
    assert z.shape == (4, tiny.n_tokens, tiny.width) == (4, 6, 128)
    assert z.dtype == torch.float32
    assert not z.requires_grad


def test_a_batch_equals_its_rows(tiny: Backbone) -> None:
    """Prompts of different lengths are padded; padding must not be seen."""
    images = pictures(4)
    alone = torch.cat([tiny.encode(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(tiny.encode(images, PROMPTS), alone, atol=1e-5, rtol=1e-5)


def test_round_trip_is_bit_exact(tiny: Backbone, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    again = Backbone.load(tmp_path)
    assert again.hash == tiny.hash
    assert again.cameras == tiny.cameras
    assert torch.equal(again.encode(pictures(2), PROMPTS[:2]), tiny.encode(pictures(2), PROMPTS[:2]))
    assert not list(tmp_path.glob("*.bin"))
    assert not list(tmp_path.glob("*.pt"))


def test_the_auto_classes_load_what_was_saved(tiny: Backbone, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    register_vision_tower()
    processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True).eval()
    image = pictures(1)
    text = PROMPTS[0] + " <image><image> " + "".join(COGNITION_TOKENS)
    batch = processor(text=[text], images=[list(image[0].transpose(0, 3, 1, 2))], return_tensors="pt")
    with torch.no_grad():
        hidden = model.model(**batch).last_hidden_state
    torch.testing.assert_close(hidden[0, -4:], tiny.encode(image, PROMPTS[:1])[0, :4], atol=1e-5, rtol=1e-5)


def test_fast_inputs_equal_the_processor(tiny: Backbone) -> None:
    images = torch.as_tensor(pictures(3))
    fast, slow = tiny._fast_inputs(images, PROMPTS[:3]), tiny._processor_inputs(images, PROMPTS[:3])
    assert set(fast) == set(slow)
    for name, value in fast.items():
        torch.testing.assert_close(value, slow[name], atol=1e-6, rtol=0)


def test_a_part_of_a_picture_has_its_own_token() -> None:
    """What moves within one part of the scene camera changes that part's token, not those of the others."""
    model = build_tiny(PROMPTS[:3], seed=3).model.base_model.vision_tower
    blank = torch.zeros(1, 3, 64, 64)
    spot = blank.clone()
    spot[..., 36:42, 52:58] = 1.0  # row 2, column 3 of 4 x 4; the convolutions see 13 px further
    with torch.no_grad():
        change = (model(spot).last_hidden_state - model(blank).last_hidden_state)[0, 8:].abs().sum(-1)
    assert change.shape == (16,)
    assert int(change.argmax()) == 11
    assert torch.equal(change[:4], torch.zeros(4))


def test_a_backbone_without_parts_reads_the_images_first() -> None:
    """What was saved before parts had tokens computes what it did."""
    model = build_tiny(PROMPTS[:3], seed=3, regions=0)
    ids = model._prompt_ids(PROMPTS[0])
    assert ids[: 2 * 8] == [model._image_id] * 16
    assert model.encode(pictures(1), PROMPTS[:1]).shape == (1, 6, 128)


def test_gradient_reaches_every_used_weight(tiny: Backbone) -> None:
    model = build_tiny(PROMPTS[:3], seed=0)
    model.encode(pictures(2), PROMPTS[:2], grad=True).square().sum().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert missing == []


def test_same_seed_same_weights_without_touching_the_global_stream() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build_tiny(PROMPTS, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.hash == build_tiny(PROMPTS, seed=5).hash
    assert first.hash != build_tiny(PROMPTS, seed=6).hash
    assert first.hash != build_tiny(PROMPTS, seed=5, cameras=("wrist", "scene")).hash


def test_the_instruction_and_both_cameras_matter(tiny: Backbone) -> None:
    images = pictures(1)
    swapped = np.ascontiguousarray(images[:, ::-1])
    z = tiny.encode(images, PROMPTS[:1])
    assert not torch.allclose(z[:, :4], tiny.encode(images, PROMPTS[1:2])[:, :4], atol=1e-4)
    assert not torch.allclose(z, tiny.encode(swapped, PROMPTS[:1]), atol=1e-4)


def test_messages(tiny: Backbone, tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatch, match=r"expected uint8 \[B, C, h, w, 3\]"):
        tiny.encode(pictures(1).astype(np.float32), PROMPTS[:1])  # type: ignore[arg-type]
    with pytest.raises(SchemaMismatch, match=r"2 cameras \(scene, wrist\)"):
        tiny.encode(pictures(1, cameras=1), PROMPTS[:1])
    with pytest.raises(SchemaMismatch, match="made for 64 x 64"):
        tiny.encode(pictures(1, size=32), PROMPTS[:1])
    with pytest.raises(CheckpointError, match="Backbone directory not found"):
        Backbone.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="could not be loaded"):
        Backbone.load(tmp_path)
    with pytest.raises(ConfigError, match="multiple of 4"):
        build_tiny(PROMPTS, 0, width=30)
    with pytest.raises(ConfigError, match="40 pixels and 4 parts per side; expected multiples of 16"):
        build_tiny(PROMPTS, 0, image_size=40)


def test_a_truncated_weight_file_is_named(tiny: Backbone, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="safetensors weights"):
        Backbone.load(tmp_path)


def test_a_stock_idefics3_goes_through_the_same_class(tmp_path: Path) -> None:
    """A checkpoint bora did not make, right-padded and without cognition tokens."""
    _save_small_idefics3(tmp_path / "stock")
    backbone = Backbone.load(tmp_path / "stock", cameras=("left", "right"))
    images = pictures(3, size=32)
    z = backbone.encode(images, PROMPTS[:3])
    assert z.shape == (3, 6, 32)
    alone = torch.cat([backbone.encode(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(z, alone, atol=1e-5, rtol=1e-5)
    backbone.save(tmp_path / "ours")
    again = Backbone.load(tmp_path / "ours")
    assert (again.hash, again.cameras) == (backbone.hash, ("left", "right"))
    assert torch.equal(again.encode(images, PROMPTS[:3]), z)


def _save_small_idefics3(folder: Path) -> None:
    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<fake_token_around_image>", "<global-img>"]
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(PROMPTS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2, "pad_token_id": 0}
    config = Idefics3Config(
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        text_config={**sizes, **text},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        scale_factor=2,
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    Idefics3Processor(images, tokenizer, image_seq_len=4).save_pretrained(folder)
