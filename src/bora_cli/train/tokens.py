"""The token cache: what the frozen backbone says about every recorded tick, computed once.

Valid exactly as long as the backbone and the episodes are the same: the file is named after the backbone's hash and
a hash of what was recorded, so that tokens of another backbone, or of an episode that was replaced, are never read.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bora_cli.data.content import episode_hash
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import write_bytes
from bora_cli.errors import CheckpointError
from bora_cli.seeds import stream
from bora_cli.train import parallel
from bora_cli.types import U8

if TYPE_CHECKING:
    from bora_cli.models.vlm import Backbone

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
F16 = NDArray[np.float16]

BATCH = 256
COPIES = 4
"""Views of every image, the clean one among them."""
SHIFT_PX = 1
"""Largest translation of an augmented image; one pixel of the scene camera is about 8 mm on the table."""
GAIN = 0.10
"""Largest relative change of brightness, and half of it per colour channel, of an augmented image."""


def dataset_tokens(
    dataset: Dataset, backbone: Backbone, copies: int = COPIES, progress: Progress | None = None
) -> F16:
    """Return tokens of all ticks of a dataset, float16 [copies, M, N, W]; copy 0 is clean, the others are augmented.

    The result is kept beside the dataset, so that each backbone sees each image once.
    """
    file = cache_file(dataset, backbone, copies)
    if file.is_file():
        cached: F16 = np.load(file)
        return cached
    parts = {}
    for i in range(parallel.rank(), len(dataset), parallel.size()):
        episode = dataset.episode(i)
        images = np.stack([episode.images[c] for c in backbone.cameras], axis=1)
        prompts = [episode.prompt] * len(episode)
        rng = stream("augment", i)
        views = [images] + [augment(images, rng) for _ in range(copies - 1)]
        parts[i] = np.stack([encode(backbone, v, prompts) for v in views])
        _require_finite(parts[i], backbone)
        if progress is not None:
            progress("encode", i + 1, len(dataset))
    parts = parallel.exchanged(parts)
    tokens = np.concatenate([parts[i] for i in range(len(dataset))], axis=1)
    try:
        if parallel.first():
            write_bytes(file, _npy(tokens))
    except OSError as error:
        log.warning("Tokens are not cached beside the dataset: %s", error)
    return tokens


def cache_file(dataset: Dataset, backbone: Backbone, copies: int) -> Path:
    """Return where the tokens of a dataset are kept."""
    return dataset.root / "cache" / f"tokens-{backbone.hash}-{content_of(dataset)}-{copies}x{SHIFT_PX}.npy"


def content_of(dataset: Dataset) -> str:
    """Return a hash of all that was recorded in a dataset, tokens' images and instructions among it (12 digits).

    When it was recorded does not count: the same recorded again has the same hash.
    """
    digest = hashlib.blake2b(f"{len(dataset)}".encode(), digest_size=6)
    for i in range(len(dataset)):
        digest.update(episode_hash(dataset.root, dataset.identity, i).encode())
    return digest.hexdigest()


def encode(backbone: Backbone, images: U8, prompts: list[str]) -> F16:
    """Return float16 tokens [n, N, W] of images uint8 [n, C, h, w, 3]."""
    parts = [
        backbone.encode(images[i : i + BATCH], prompts[i : i + BATCH]).cpu().numpy().astype(np.float16)
        for i in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Views:
    """How each image of each camera is shifted and re-lit.

    top, left: int [n, C], where the view begins in the image with a border of `shift` px.  gain: float64 [n, C, 3].
    """

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    gain: NDArray[np.float64]
    shift: int

    def of(self, rows: slice) -> Views:
        """Return the views of some of the images."""
        return Views(self.top[rows], self.left[rows], self.gain[rows], self.shift)


def draw_views(shape: tuple[int, ...], rng: np.random.Generator, shift: int = SHIFT_PX) -> Views:
    """Return random views of images of shape [n, C, h, w, 3].  shift: largest translation in pixels."""
    n, cameras = shape[:2]
    top = rng.integers(0, 2 * shift + 1, (n, cameras))
    left = rng.integers(0, 2 * shift + 1, (n, cameras))
    brightness = 1 + rng.uniform(-GAIN, GAIN, (n, cameras, 1))
    channels = 1 + rng.uniform(-GAIN / 2, GAIN / 2, (n, cameras, 3))
    return Views(top, left, brightness * channels, shift)


def show(images: U8, views: Views) -> U8:
    """Return images uint8 [n, C, h, w, 3] as the views show them.

    A pixel has one of 256 values, so what it becomes is looked up, several times faster than it is multiplied and
    clipped.
    """
    border = (views.shift, views.shift)
    padded = np.pad(images, ((0, 0), (0, 0), border, border, (0, 0)), mode="edge")
    h, w = images.shape[2:4]
    levels = np.arange(256, dtype=np.float64)
    tables = np.clip(levels * views.gain[..., None], 0, 255).astype(np.uint8)  # [n, C, 3, 256]
    shown = np.empty_like(images)
    for at in np.ndindex(*images.shape[:2]):
        top, left = views.top[at], views.left[at]
        seen = padded[at][top : top + h, left : left + w]
        shown[at] = np.asarray(Image.fromarray(seen).point(tables[at].ravel().tolist()))
    return shown


def augment(images: U8, rng: np.random.Generator, shift: int = SHIFT_PX) -> U8:
    """Return shifted and re-lit images, uint8 [n, C, h, w, 3]; each image of each camera draws its own.

    shift: largest translation in pixels.
    """
    return show(images, draw_views(images.shape, rng, shift))


def _require_finite(tokens: F16, backbone: Backbone) -> None:
    bad = int((~np.isfinite(tokens)).sum())
    if bad:
        raise CheckpointError(
            f"{bad} of {tokens.size} numbers in the tokens of backbone {backbone.hash} are not finite in half"
            " precision (beyond 65504, or NaN).",
            "Look for NaN in its weights; expected a checkpoint whose last hidden states are normalised.",
        )


def _npy(tokens: F16) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, tokens)
    return buffer.getvalue()
