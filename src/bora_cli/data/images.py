"""The images of an episode, wherever the dataset keeps them: PNG files in the data table, or videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bora_cli.data import png, video
from bora_cli.data.files import TEMPORARY, Tracer, read_table, write_bytes
from bora_cli.data.schema import DATA_PATH, IMAGE_PREFIX, Identity, episode_file, video_file
from bora_cli.errors import CorruptEpisode
from bora_cli.types import Episode

U8 = NDArray[np.uint8]
_RESTORE = "Restore the data file from a copy."


def write_videos(root: Path, identity: Identity, index: int, episode: Episode, trace: Tracer) -> None:
    """Encode and write the videos of an episode, where the dataset keeps video; each file atomically."""
    for camera in identity.cameras if identity.video else ():
        data = video.encode(episode.images[camera], identity.video, identity.fps)
        write_bytes(video_file(root, camera, index), data, trace)


def read_images(root: Path, identity: Identity, index: int, length: int) -> dict[str, U8]:
    """Return the images of an episode of `length` ticks: camera -> uint8 [T, H, W, 3].

    Raises CorruptEpisode naming the file that is missing, torn, too short or of another size.
    """
    return {camera: read_frames(root, identity, index, camera, range(length)) for camera in identity.cameras}


def read_frames(root: Path, identity: Identity, index: int, camera: str, ticks: Sequence[int]) -> U8:
    """Return some images of one camera, uint8 [len(ticks), H, W, 3].  ticks: rising."""
    if identity.video:
        path = video_file(root, camera, index)
        return video.decode(path, identity.image_size, 0.0, ticks, identity.fps)
    path, column = episode_file(root, DATA_PATH, index), IMAGE_PREFIX + camera
    stored = read_table(path, [column])[column]
    out = np.empty((len(ticks), *identity.image_size, 3), np.uint8)
    for i, t in enumerate(ticks):
        try:
            out[i] = png.decode([stored[int(t)].as_py()["bytes"] or b""], identity.image_size)[0]
        except (CorruptEpisode, LookupError, TypeError) as error:
            message = (
                error.message if isinstance(error, CorruptEpisode) else f"{type(error).__name__}: {error}."
            )
            raise CorruptEpisode(f"{path}, camera {camera}, tick {t}: {message}", _RESTORE) from None
    return out


def source_files(root: Path, identity: Identity, index: int) -> list[Path]:
    """Return the files that the ticks and images of an episode come from."""
    videos = [video_file(root, camera, index) for camera in identity.cameras if identity.video]
    return [episode_file(root, DATA_PATH, index), *videos]


def unfinished(root: Path, identity: Identity, index: int) -> list[Path]:
    """Return where an interrupted append of episode `index` may have left images."""
    videos = [video_file(root, camera, index) for camera in identity.cameras if identity.video]
    return [*videos, *(file.with_name(file.name + TEMPORARY) for file in videos)]
