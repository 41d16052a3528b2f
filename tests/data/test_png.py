"""Images come back exactly, and damaged ones are named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from bora_cli.data import png
from bora_cli.errors import CorruptEpisode


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_any_image_comes_back_exactly(images: np.ndarray) -> None:
    assert png.decode(png.encode(images), images.shape[1:3]).tobytes() == images.tobytes()


def test_other_writers_are_read_too() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    assert png.decode([buffer.getvalue()], (5, 7))[0].tobytes() == image.tobytes()


def test_smooth_images_become_small() -> None:
    image = np.full((1, 64, 64, 3), 128, np.uint8)
    assert len(png.encode(image)[0]) < 300


def test_a_torn_image_is_named() -> None:
    files = png.encode(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8))
    with pytest.raises(CorruptEpisode, match="Image 1 cannot be decoded"):
        png.decode([files[0], files[1][: len(files[1]) // 2]], (16, 16))


def test_a_wrong_size_is_named() -> None:
    files = png.encode(np.zeros((1, 4, 6, 3), np.uint8))
    with pytest.raises(CorruptEpisode, match="Image 0 is 6 x 4 pixels; expected 8 x 8"):
        png.decode(files, (8, 8))
