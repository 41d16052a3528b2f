"""Where hand and object are in images that nobody simulated: boxes on the command line, or masks in a file.

A box is PART:CAMERA=X0,Y0,X1,Y1 in pixels, the corner X1,Y1 left out; it holds for all ticks.  A file is .npz with
arrays PART_CAMERA, such as object_scene: bool or uint8, [h, w] for all ticks or [ticks, h, w] for the ticks of all
episodes one after the other.  PART is object or hand; what belongs to neither is background.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError, DataError, SchemaMismatch
from bora_cli.sim.part_masks import HAND, OBJECT
from bora_cli.types import U8

PARTS = {"object": OBJECT, "hand": HAND}
_BOX = re.compile(r"(?P<part>\w+):(?P<camera>\w+)=(?P<corners>\d+,\d+,\d+,\d+)")


def box_masks(boxes: Sequence[str], cameras: Sequence[str], size: tuple[int, int], rows: int) -> U8:
    """Return masks uint8 [rows, C, h, w] of boxes; where a hand and an object overlap, it is the object.

    size: (h, w), px.  Raises ConfigError for what is no box, another part, an unknown camera or an empty box.
    """
    masks = np.zeros((len(cameras), *size), np.uint8)
    read = [_box(text, cameras, size) for text in boxes]
    for part, camera, x0, y0, x1, y1 in sorted(read, key=lambda box: box[0] == "object"):
        masks[cameras.index(camera), y0:y1, x0:x1] = PARTS[part]
    return np.repeat(masks[None], rows, axis=0)


def _box(text: str, cameras: Sequence[str], size: tuple[int, int]) -> tuple[str, str, int, int, int, int]:
    match = _BOX.fullmatch(text)
    remedy = f"Write for instance object:{cameras[0]}=20,24,44,48 (pixels, left, top, right, bottom)."
    if match is None or match["part"] not in PARTS or match["camera"] not in cameras:
        raise ConfigError(
            f"'{text}' is no box; expected PART:CAMERA=X0,Y0,X1,Y1 with a part of {', '.join(PARTS)} and a camera of"
            f" {', '.join(cameras)}.",
            remedy,
        )
    x0, y0, x1, y1 = (int(v) for v in match["corners"].split(","))
    if not (x0 < x1 <= size[1] and y0 < y1 <= size[0]):
        raise ConfigError(
            f"The box '{text}' is empty or leaves the image of {size[1]} x {size[0]} px.", remedy
        )
    return match["part"], match["camera"], x0, y0, x1, y1


def file_masks(
    path: Path, cameras: Sequence[str], size: tuple[int, int], rows: NDArray[np.int64], ticks: int
) -> U8:
    """Return the masks of some ticks from a file, uint8 [n, C, h, w]; see `box_masks`.

    rows: [n], ticks of the data, of which there are `ticks`.  Raises DataError if the file cannot be read,
    SchemaMismatch for arrays of other names or shapes.
    """
    if not path.is_file():
        raise DataError(f"There is no mask file at {path}.", "Name an .npz file.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(
            f"{path} is not a readable .npz file of arrays of numbers.", "Write it with numpy.savez."
        ) from error
    wanted = [f"{part}_{camera}" for part in ("hand", "object") for camera in cameras]
    if unknown := sorted(set(arrays) - set(wanted)):
        raise SchemaMismatch(f"{path} has an array '{unknown[0]}'.", f"Known names: {', '.join(wanted)}.")
    if not arrays:
        raise SchemaMismatch(f"{path} has no array.", f"Known names: {', '.join(wanted)}.")
    masks = np.zeros((len(rows), len(cameras), *size), np.uint8)
    for name in (w for w in wanted if w in arrays):
        part, _, camera = name.partition("_")
        mask = arrays[name].astype(bool)
        if mask.shape not in (size, (ticks, *size)):
            raise SchemaMismatch(
                f"The mask {name} of {path} has shape {mask.shape}; expected {size} or {(ticks, *size)}.",
                "Give one mask as large as the images, or one per tick of the data.",
            )
        here = mask[rows] if mask.ndim == 3 else np.broadcast_to(mask, (len(rows), *size))
        masks[:, cameras.index(camera)][here] = PARTS[part]
    return masks
