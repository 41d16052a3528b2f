"""Pictures and short looping films as bytes: WebP and PNG through Pillow, no video decoder needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bora_cli.errors import DataError
from bora_cli.types import U8


def webp_film(frames: Sequence[U8] | U8, *, fps: float = 10.0, quality: int = 60, hold: float = 0.8) -> bytes:
    """Encode frames as an animated WebP that loops for ever.

    frames: uint8 [T, H, W, 3].  fps: frames per second.  hold: extra seconds on the last frame, so that the
    eye sees the outcome before the loop begins again.  Raises DataError without frames.
    """
    from PIL import Image

    if not len(frames):
        raise DataError("A film needs at least one frame.", "Record the episode with images.")
    images = [Image.fromarray(np.ascontiguousarray(f)) for f in frames]
    durations = [round(1000 / fps)] * len(images)
    durations[-1] += round(1000 * hold)
    out = io.BytesIO()
    images[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        quality=quality,
        method=4,
    )
    return out.getvalue()


def webp_image(image: U8, *, quality: int = 75) -> bytes:
    """Encode one picture, uint8 [H, W, 3], as WebP."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "WEBP", quality=quality, method=6)
    return out.getvalue()


def read_image(source: Path | bytes) -> U8:
    """Decode a picture file or its bytes to uint8 [H, W, 3].  Raises DataError if it is not a picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"Not a readable picture: {error}.", "Make the thumbnails again.") from error
