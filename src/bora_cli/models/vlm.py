"""The vision-language backbone: images and an instruction in, a few cognition and image tokens out.

Cognition tokens are ordinary vocabulary tokens `<cog0> ... <cog3>` written after the instruction; their last
hidden states are gathered by token id.  Image tokens are averaged per camera.  The exported token set is
[cog0, cog1, cog2, cog3, mean of camera 1, mean of camera 2, ...], N = 4 + cameras.

The tiny Llava that `build_tiny` makes prepares its inputs in torch; checkpoints of other families, Idefics3, SmolVLM,
PaliGemma 2 and Qwen-VL among them (see `loading`), go through processors.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from bora_cli.errors import ConfigError, SchemaMismatch
from bora_cli.models.loading import COGNITION_TOKENS, load_pretrained, quiet
from bora_cli.models.tower import KeypointVisionConfig, register_vision_tower

SETTINGS_FILE = "bora_backbone.json"
PAD, UNKNOWN, IMAGE = "<pad>", "<unk>", "<image>"


class Backbone(nn.Module):
    """A vision-language model read out at cognition and image tokens.

    cameras: names in the order in which `encode` expects the images.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, cameras: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.processor = processor
        self.cameras = tuple(cameras)
        self._tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        self._image_id = int(model.config.image_token_id)
        self._cog_ids = [self._tokenizer.convert_tokens_to_ids(t) for t in COGNITION_TOKENS]
        self._ids: dict[str, list[int]] = {}

    @classmethod
    def load(cls, path: str | Path, *, cameras: Sequence[str] = ("scene", "wrist")) -> Backbone:
        """Load a backbone directory, or any image-text-to-text checkpoint given as directory or hub id.

        cameras: used where the directory does not say (a checkpoint that bora has not saved).  Such a
        checkpoint gets the cognition tokens as new rows of its embedding; they mean nothing before training.
        Raises CheckpointError if it cannot be used, see `loading.load_pretrained`.
        """
        register_vision_tower()
        model, processor = load_pretrained(path)
        settings = Path(path) / SETTINGS_FILE
        if settings.is_file():
            cameras = json.loads(settings.read_text())["cameras"]
        return cls(model, processor, cameras)

    def save(self, path: str | Path) -> None:
        """Write configuration, weights (safetensors), processor and camera order into a directory."""
        folder = Path(path)
        with quiet():
            self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        (folder / SETTINGS_FILE).write_text(json.dumps({"cameras": list(self.cameras)}) + "\n")

    @property
    def n_tokens(self) -> int:
        """Number of exported tokens N."""
        return len(COGNITION_TOKENS) + len(self.cameras)

    @property
    def width(self) -> int:
        """Width W of an exported token."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with any weight, the vocabulary or the camera order.

        Computed afresh on every access (a few milliseconds for the tiny backbone), so that it is never stale.
        """
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        vocabulary = json.dumps(self._tokenizer.get_vocab(), sort_keys=True)
        for text in (vocabulary, self.processor.image_processor.to_json_string(), ",".join(self.cameras)):
            digest.update(text.encode())
        return digest.hexdigest()[:12]

    def encode(
        self, images: NDArray[np.uint8] | Tensor, prompts: Sequence[str], *, grad: bool = False
    ) -> Tensor:
        """Return the exported tokens, float32 [B, N, W].

        images: uint8 [B, C, h, w, 3], cameras in the order of `cameras`.  prompts: B instructions.
        grad: keep the graph (pre-training); otherwise nothing is recorded (the result may enter a graph).
        Raises SchemaMismatch if shapes or type differ from this.
        """
        pixels = torch.as_tensor(images)
        self._check(pixels, prompts)
        with torch.set_grad_enabled(grad):
            inputs = (
                self._fast_inputs(pixels, prompts)
                if self._is_tiny
                else self._processor_inputs(pixels, prompts)
            )
            hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state.float()
            return self._gather(hidden, inputs["input_ids"])

    @property
    def _is_tiny(self) -> bool:
        return isinstance(getattr(self.model.config, "vision_config", None), KeypointVisionConfig)

    def _check(self, images: Tensor, prompts: Sequence[str]) -> None:
        shape = tuple(images.shape)
        if images.dtype != torch.uint8 or images.ndim != 5 or shape[-1] != 3:
            raise SchemaMismatch(
                f"Images are {images.dtype} {list(shape)}; expected uint8 [B, C, h, w, 3].",
                "Stack the cameras on the second axis and keep the pixels as bytes.",
            )
        if shape[1] != len(self.cameras) or shape[0] != len(prompts):
            raise SchemaMismatch(
                f"Got {shape[0]} x {shape[1]} images and {len(prompts)} prompts; expected one prompt per row"
                f" and {len(self.cameras)} cameras ({', '.join(self.cameras)}).",
                "Give the images in the camera order of the backbone.",
            )
        if self._is_tiny and shape[2:4] != (self.model.config.vision_config.image_size,) * 2:
            size = self.model.config.vision_config.image_size
            raise SchemaMismatch(
                f"Images are {shape[2]} x {shape[3]} pixels; this backbone was made for {size} x {size}.",
                "Record or resize the images at that size.",
            )

    def _fast_inputs(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Do what the tiny backbone's processor does, in torch and with prompts tokenised once."""
        device = self.model.device
        rows = [self._prompt_ids(p) for p in prompts]
        longest = max(len(r) for r in rows)
        pad = int(self._tokenizer.pad_token_id)
        ids = torch.tensor([[pad] * (longest - len(r)) + r for r in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows], device=device)
        image_processor = self.processor.image_processor
        mean = torch.tensor(image_processor.image_mean, device=device).view(3, 1, 1)
        std = torch.tensor(image_processor.image_std, device=device).view(3, 1, 1)
        pixels = images.to(device).flatten(0, 1).permute(0, 3, 1, 2).float() * image_processor.rescale_factor
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
            "pixel_values": (pixels - mean) / std,
        }

    def _processor_inputs(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Let the checkpoint's own processor prepare images and text (slow, but right for every family)."""
        rows = [list(row) for row in images.permute(0, 1, 4, 2, 3).cpu().numpy()]
        texts = [self._text(p) for p in prompts]
        batch = self.processor(text=texts, images=rows, padding=True, return_tensors="np")
        wanted = {k: v for k, v in batch.items() if k != "labels"}  # PaliGemma's processor adds them unasked
        inputs = {k: torch.as_tensor(v, device=self.model.device) for k, v in wanted.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        if "image_grid_thw" not in inputs:  # Qwen-VL lays out its pictures in rows and columns by itself
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return inputs

    def _text(self, prompt: str) -> str:
        image_token = getattr(self.processor, "image_token", IMAGE)
        images, cognition = image_token * len(self.cameras), "".join(COGNITION_TOKENS)
        if self._is_tiny and self.model.config.vision_config.regions:
            # a part of an image that has read the instruction knows whether it is the one that is meant
            return f"{prompt.strip()} {images} {cognition}"
        return f"{images} {prompt.strip()} {cognition}"

    def _prompt_ids(self, prompt: str) -> list[int]:
        if prompt not in self._ids:
            per_image = IMAGE * self.model.config.image_seq_length
            self._ids[prompt] = self._tokenizer(self._text(prompt).replace(IMAGE, per_image))["input_ids"]
        return self._ids[prompt]

    def _gather(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Pick cognition tokens by id, average image tokens per camera; hidden [B, L, W] -> [B, N, W]."""
        b, _, width = hidden.shape
        is_cog = torch.isin(ids, torch.tensor(self._cog_ids, device=ids.device))
        cog = hidden[is_cog].view(b, len(self._cog_ids), width)
        views = hidden[ids == self._image_id].view(b, len(self.cameras), -1, width).mean(2)
        return torch.cat([cog, views], dim=1)


def build_tiny(
    words: Sequence[str],
    seed: int,
    *,
    cameras: Sequence[str] = ("scene", "wrist"),
    image_size: int = 64,
    width: int = 128,
    layers: int = 2,
    regions: int = 4,
) -> Backbone:
    """Make a fresh tiny backbone with random weights.

    words: instructions or single words; their lower-cased words become the vocabulary, all others `<unk>`.
    seed: of the initial weights.  image_size: pixels per side.  width, layers: of the Llama text model.
    regions: parts per side that get a token of their own, 0 for none.
    """
    register_vision_tower()
    if not cameras or width % 4:
        raise ConfigError(
            f"Width {width} with {len(cameras)} cameras; expected a multiple of 4 and at least 1 camera."
        )
    if regions and image_size % (4 * regions):
        raise ConfigError(
            f"Images of {image_size} pixels and {regions} parts per side; expected multiples of {4 * regions} pixels."
        )
    tokenizer = _word_tokenizer(words)
    vision = KeypointVisionConfig(image_size=image_size, regions=regions)
    per_image = vision.image_tokens + vision.regions**2
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=True,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.get_vocab()[IMAGE],
        image_seq_length=per_image,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    side = {"height": image_size, "width": image_size}
    processor = LlavaProcessor(
        image_processor=LlavaImageProcessorPil(
            size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=tokenizer,
        # one patch that is the whole image, plus the others: the number of tokens does not depend on a grid
        patch_size=image_size,
        num_additional_image_tokens=per_image - 1,
        vision_feature_select_strategy="full",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    return Backbone(model.eval(), processor, cameras)


def _word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer that pads on the left."""
    found = sorted({w for text in words for w in re.findall(r"\w+|[^\w\s]+", text.lower())})
    special = [PAD, UNKNOWN, IMAGE, *COGNITION_TOKENS]
    vocabulary = {w: i for i, w in enumerate([*special, *found])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )
