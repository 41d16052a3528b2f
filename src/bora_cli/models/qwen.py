"""What Qwen-VL's processor does with pictures and text, for machines where it does not load.

The processor that transformers has for this family also decodes videos and needs torchvision for that; a policy looks
at pictures.  The image processor and the tokenizer are the family's own; the prompt is put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Families that share this form of prompt."""
PAD = "<|image_pad|>"


class PictureProcessor:
    """Prompts with pictures in the form that Qwen-VL was trained on.

    image_token: what stands in a prompt for one picture.  The marks around it are part of it: without them two
    pictures in a row would count as one when the model lays out its positions in rows and columns.
    """

    image_token = f"<|vision_start|>{PAD}<|vision_end|>"

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer

    @classmethod
    def from_pretrained(cls, path: str | Path, *, local_files_only: bool) -> PictureProcessor:
        """Read both parts of a checkpoint; raises OSError or ValueError where one is missing."""
        images = Qwen2VLImageProcessorPil.from_pretrained(path, local_files_only=local_files_only)
        return cls(images, AutoTokenizer.from_pretrained(path, local_files_only=local_files_only))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write both parts into a directory, as the files of a checkpoint."""
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def __call__(
        self, *, text: Sequence[str], images: Sequence[Sequence[Any]], padding: bool, return_tensors: str
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Return the model's inputs: ids and masks [B, L], patches of all pictures in a row, and their grids [n, 3].

        images: per prompt, pictures uint8 [3, h, w] in the order of their tokens.
        """
        pictures = self.image_processor(
            images=[picture for row in images for picture in row], return_tensors=return_tensors
        )
        grids = np.asarray(pictures["image_grid_thw"])
        merged = iter((grids.prod(1) // self.image_processor.merge_size**2).tolist())
        texts = []
        for prompt in text:
            first, *rest = prompt.split(PAD)
            texts.append(first + "".join(PAD * next(merged) + part for part in rest))
        words = self.tokenizer(texts, padding=padding, return_tensors=return_tensors)
        ids = np.asarray(words["input_ids"])
        return {
            "input_ids": ids,
            "attention_mask": np.asarray(words["attention_mask"]),
            "mm_token_type_ids": (ids == self.tokenizer.convert_tokens_to_ids(PAD)).astype(np.int64),
            "pixel_values": np.asarray(pictures["pixel_values"]),
            "image_grid_thw": grids,
        }
