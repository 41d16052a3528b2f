"""Images as video: one MP4 file per episode and camera, written and read by PyAV.

Three codecs are offered.  Every second frame is a key frame, as LeRobot does it, so that any frame is at most one
frame away from where decoding can start.

    h264-lossless   RGB in H.264, every pixel as it was
    h264            4:2:0, constant rate factor 18; colour has half the resolution
    av1             4:2:0, LeRobot's default settings; smallest, slowest to write
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError, CorruptEpisode

if TYPE_CHECKING:
    from types import ModuleType

U8 = NDArray[np.uint8]
_RESTORE = "Restore the video from a copy."
_MOST_PIXELS = 1 << 26
"""Frames with more pixels than this are refused before anything is allocated for them."""


@dataclass(frozen=True)
class Codec:
    """How frames become a video.  name: of the format in LeRobot's header; encoder: FFmpeg's."""

    name: str
    encoder: str
    pixels: str
    lossless: bool
    options: dict[str, str] = field(default_factory=dict)


CODECS = {
    "h264-lossless": Codec(
        "h264", "libx264rgb", "rgb24", True, {"crf": "0", "preset": "veryfast", "bf": "0"}
    ),
    "h264": Codec("h264", "libx264", "yuv420p", False, {"crf": "18", "preset": "veryfast", "bf": "0"}),
    "av1": Codec("av1", "libsvtav1", "yuv420p", False, {"crf": "30", "preset": "8", "svtav1-params": "lp=1"}),
}
"""What `Dataset.create(video=...)` takes; without one, images are PNG files in the data table."""


def require_codec(name: str) -> Codec:
    """Return a codec by its name.  Raises ConfigError naming the known ones."""
    if name not in CODECS:
        raise ConfigError(
            f"Unknown video codec {name!r}; expected one of {', '.join(CODECS)}.", "Choose one."
        )
    return CODECS[name]


def feature_info(codec: str, size: tuple[int, int], fps: float) -> dict[str, Any]:
    """Return what LeRobot's header tells about a video.  size: (height, width) in pixels."""
    known = CODECS[codec]
    return {
        "video.height": size[0],
        "video.width": size[1],
        "video.codec": known.name,
        "video.pix_fmt": "gbrp" if known.lossless else known.pixels,
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }


def encode(images: U8, codec: str, fps: float) -> bytes:
    """Return an MP4 file; frame i stands at i / fps seconds.

    images: uint8 [T, H, W, 3].  Raises ConfigError where the codec cannot take the size or PyAV is not
    installed.
    """
    av = _pyav()
    known = require_codec(codec)
    _, height, width, _ = images.shape
    if not known.lossless and (height % 2 or width % 2):
        raise ConfigError(
            f"Images of {width} x {height} pixels cannot be stored as {codec}; expected even numbers.",
            "Choose another image size, or h264-lossless.",
        )
    rate = Fraction(fps).limit_denominator(1001)
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream(known.encoder, rate, options={"g": "2", **known.options})
        stream.width, stream.height, stream.pix_fmt = width, height, known.pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = 1 / rate
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = i, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def decode(path: Path, size: tuple[int, int], start: float, ticks: Sequence[int], fps: float) -> U8:
    """Return the frames at `start + tick / fps` seconds, uint8 [len(ticks), H, W, 3].

    size: (height, width).  start: seconds, where the episode begins in the file.  ticks: rising.
    Raises CorruptEpisode where the file is missing, torn, of another size or too short.
    """
    av = _pyav()
    out = np.empty((len(ticks), *size, 3), np.uint8)
    if not len(ticks):
        return out
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise CorruptEpisode(f"{path} holds no video.", _RESTORE)
            stream = container.streams.video[0]
            _require_size(path, stream, size)
            stream.thread_type = "NONE"
            found = _pick(container, stream, [start + t / fps for t in ticks], 0.5 / fps, out)
    except FileNotFoundError:
        raise CorruptEpisode(f"{path} is missing.", _RESTORE) from None
    except (av.FFmpegError, OSError) as error:
        raise CorruptEpisode(f"{path} cannot be decoded: {error}.", _RESTORE) from None
    if found < len(ticks):
        raise CorruptEpisode(
            f"{path} has no frame at {start + ticks[found] / fps:g} s (tick {ticks[found]}); expected one every"
            f" {1 / fps:g} s, for {len(ticks)} ticks.",
            _RESTORE,
        )
    return out


def frame_count(path: Path) -> int:
    """Return how many frames a video has.  Raises CorruptEpisode where it is missing, torn or holds no video."""
    av = _pyav()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise CorruptEpisode(f"{path} holds no video.", _RESTORE)
            return sum(packet.pts is not None for packet in container.demux(video=0))
    except FileNotFoundError:
        raise CorruptEpisode(f"{path} is missing.", _RESTORE) from None
    except (av.FFmpegError, OSError) as error:
        raise CorruptEpisode(f"{path} cannot be decoded: {error}.", _RESTORE) from None


def _pick(container: Any, stream: Any, times: list[float], tolerance: float, out: U8) -> int:
    """Write the frames nearest to `times` (rising, s) into `out`, return how many were found."""
    base = float(stream.time_base)
    offset = times[0] - tolerance
    if offset > 0:
        container.seek(int(offset / base), stream=stream, backward=True)
    wanted = 0
    for frame in container.decode(stream):
        time = frame.pts * base
        if time < times[wanted] - tolerance:
            continue
        pixels = None
        while wanted < len(times) and abs(time - times[wanted]) <= tolerance:
            pixels = frame.to_ndarray(format="rgb24") if pixels is None else pixels
            out[wanted] = pixels
            wanted += 1
        if wanted == len(times) or time > times[wanted] + tolerance:
            break
    return wanted


def _require_size(path: Path, stream: Any, size: tuple[int, int]) -> None:
    if (stream.height, stream.width) != size or stream.height * stream.width > _MOST_PIXELS:
        raise CorruptEpisode(
            f"{path} has frames of {stream.width} x {stream.height} pixels; expected {size[1]} x {size[0]}.",
            _RESTORE,
        )


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise ConfigError(
            "Videos need PyAV, which is not installed.", 'Install it with `pip install "bora-cli[video]"`.'
        ) from None
    module: ModuleType = av
    return module
