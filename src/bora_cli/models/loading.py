"""Loading of vision-language checkpoints that others made: what goes wrong is said before anything is trained.

Proven to the last hidden state, on random weights, for Idefics3 and SmolVLM (`model.text_model`), for PaliGemma 2 and
for Qwen-VL (`model.language_model`); the tiny backbone is a Llava.  Others that `AutoModelForImageTextToText` knows go
the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Idefics3Processor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils import logging as transformers_logging

from bora_cli.errors import CheckpointError
from bora_cli.models import qwen

COGNITION_TOKENS = ("<cog0>", "<cog1>", "<cog2>", "<cog3>")


def load_pretrained(path: str | Path) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Return model (float32, evaluation mode) and processor of a directory or hub id, with cognition tokens.

    Raises CheckpointError where a directory was meant but is missing, where the processor is incomplete, where the
    model takes no images, and where weights are missing or have another shape than the configuration says.
    """
    local = Path(path).is_dir()
    if not local and _means_a_directory(path):
        raise CheckpointError(
            f"Backbone directory not found: {path}; expected one with config.json and model.safetensors.",
            'Pre-train one with "bora pretrain --out DIR", or give a hub id such as owner/name.',
        )
    with quiet():
        processor = _processor(path, local)
        model = _model(path, local)
    image_id = getattr(model.config, "image_token_id", None)
    if image_id is None or not hasattr(model.base_model, "get_image_features"):
        raise CheckpointError(
            f"Backbone {path} is a {model.config.model_type} without image tokens in its text.",
            "Use a model that writes images as tokens into the prompt, such as SmolVLM or PaliGemma 2.",
        )
    _add_cognition_tokens(model, processor)
    return model.eval(), processor


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and from chatting, and leave its settings as they were."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()


def _means_a_directory(path: str | Path) -> bool:
    return Path(path).is_absolute() or str(path).startswith((".", "~")) or str(path).count("/") != 1


def _processor(path: str | Path, local: bool) -> Any:
    try:
        processor = _any_processor(path, local)
    except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The processor of backbone {path} could not be loaded: {_first_line(error)}",
            "Expected processor_config.json (or preprocessor_config.json) and tokenizer files beside the weights.",
        ) from error
    missing = [part for part in ("image_processor", "tokenizer") if getattr(processor, part, None) is None]
    if missing:
        raise CheckpointError(
            f"The processor of backbone {path} has no {' and no '.join(missing)}.",
            "Use an image-text-to-text checkpoint with processor_config.json and tokenizer.json.",
        )
    # small pictures would be blown up and cut into dozens of tiles
    if getattr(processor.image_processor, "do_image_splitting", False):
        processor.image_processor.do_image_splitting = False
    return processor


def _any_processor(path: str | Path, local: bool) -> Any:
    """Return the checkpoint's processor; for SmolVLM, whose own needs a video decoder, that of Idefics3.

    Qwen-VL gets ours whether its own would load or not, so that tokens do not depend on what is installed.
    """
    if _model_type(path, local) in qwen.MODEL_TYPES:
        return qwen.PictureProcessor.from_pretrained(path, local_files_only=local)
    try:
        return AutoProcessor.from_pretrained(path, local_files_only=local)
    except (OSError, ValueError, ImportError, TypeError):
        config = AutoConfig.from_pretrained(path, local_files_only=local)
        if config.model_type not in ("smolvlm", "idefics3"):
            raise
    images = AutoImageProcessor.from_pretrained(path, local_files_only=local)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=local)
    side = config.vision_config.image_size // config.vision_config.patch_size
    return Idefics3Processor(images, tokenizer, image_seq_len=(side // config.scale_factor) ** 2)


def _model_type(path: str | Path, local: bool) -> str:
    """Return the family's name, or "" where config.json does not say; what is wrong with it is said later."""
    try:
        settings, _ = PreTrainedConfig.get_config_dict(path, local_files_only=local)
    except (OSError, ValueError):
        return ""
    return str(settings.get("model_type", ""))


def _model(path: str | Path, local: bool) -> PreTrainedModel:
    load: Any = AutoModelForImageTextToText.from_pretrained
    try:
        model, facts = load(
            path, local_files_only=local, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"Backbone {path} could not be loaded: {_first_line(error)}",
            "Expected an image-text-to-text checkpoint with safetensors weights and a processor.",
        ) from error
    absent = sorted(facts["missing_keys"])
    if absent:
        raise CheckpointError(
            f"Backbone {path} lacks {len(absent)} weights that its configuration needs, first {absent[0]};"
            " they would be random.",
            "Get the checkpoint again, with all its safetensors files.",
        )
    loaded: PreTrainedModel = model
    return loaded


def _add_cognition_tokens(model: PreTrainedModel, processor: Any) -> None:
    """Add the cognition tokens to a checkpoint that lacks them, and pad its prompts on the left.

    A checkpoint whose embedding has rows to spare keeps its size; the new tokens take the next of them.
    """
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.convert_tokens_to_ids(COGNITION_TOKENS[-1]) not in (None, tokenizer.unk_token_id):
        return
    tokenizer.add_tokens(list(COGNITION_TOKENS), special_tokens=True)
    if len(tokenizer) > model.config.get_text_config().vocab_size:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(0)
            model.resize_token_embeddings(len(tokenizer))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
