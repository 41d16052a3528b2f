"""Random vision-language checkpoints of real families, small enough for tests, in the files a hub checkpoint has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from bora_cli.models.loading import quiet

PROMPTS = ["pick up the toy", "open the box", "press the red button now please"]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
IDEFICS_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")


def tokenizer(special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, padding on the right as most checkpoints do."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<pad>", "<bos>", "<eos>", "<unk>", *special]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=names, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(PROMPTS, trainer)
    marks = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **marks)


def idefics3(folder: Path) -> None:
    """Save a small Idefics3, whose image processor would cut pictures into tiles if it were let."""
    words = tokenizer(IDEFICS_TOKENS)
    _save(folder, Idefics3ForConditionalGeneration(Idefics3Config(**_idefics(words))))
    _idefics_processor(words).save_pretrained(folder)


def smolvlm(folder: Path) -> None:
    """Save a small SmolVLM2, whose own processor needs a video decoder."""
    words = tokenizer(IDEFICS_TOKENS)
    _save(folder, SmolVLMForConditionalGeneration(SmolVLMConfig(**_idefics(words))))
    _idefics_processor(words).save_pretrained(folder)
    for name in ("processor_config.json", "tokenizer_config.json"):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"processor_class": "SmolVLMProcessor"}))


def paligemma2(folder: Path) -> None:
    """Save a small PaliGemma 2."""
    words = tokenizer(("<image>",))
    gemma = {
        "model_type": "gemma2",
        "vocab_size": len(words),
        "num_key_value_heads": 1,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 64,
        "pad_token_id": 0,
    }
    siglip = {
        "model_type": "siglip_vision_model",
        "image_size": 32,
        "patch_size": 16,
        "vision_use_head": False,
    }
    config = PaliGemmaConfig(
        vision_config={**SIZES, **siglip, "projection_dim": 32},
        text_config={**SIZES, **gemma},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
        pad_token_id=0,
    )
    _save(folder, PaliGemmaForConditionalGeneration(config))
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    images.image_seq_length = 4
    PaliGemmaProcessor(images, words).save_pretrained(folder)


def qwen2_5_vl(folder: Path) -> None:
    """Save a small Qwen2.5-VL with the files that a hub checkpoint has; its own processor needs torchvision."""
    words = tokenizer(("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"))
    number = words.convert_tokens_to_ids
    text = {
        "vocab_size": len(words),
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    }
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**SIZES, **text},
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
    )
    _save(folder, Qwen2_5_VLForConditionalGeneration(config))
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    words.save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "paligemma2": paligemma2,
    "qwen2_5_vl": qwen2_5_vl,
}


def save_family(name: str, folder: Path) -> Path:
    """Save a checkpoint of a family with weights that are always the same."""
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        FAMILIES[name](folder)
    return folder


def _idefics(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    text = {"model_type": "llama", "vocab_size": len(words), "num_key_value_heads": 2, "pad_token_id": 0}
    return {
        "vision_config": {**SIZES, "image_size": 32, "patch_size": 8},
        "text_config": {**SIZES, **text},
        "image_token_id": words.convert_tokens_to_ids("<image>"),
        "pad_token_id": 0,
        "scale_factor": 2,
    }


def _idefics_processor(words: PreTrainedTokenizerFast) -> Idefics3Processor:
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 128}, max_image_size={"longest_edge": 32}, do_image_splitting=True
    )
    return Idefics3Processor(images, words, image_seq_len=4)


def _save(folder: Path, model: Any) -> None:
    model.save_pretrained(folder)
