import io

import made_up
import numpy as np
import pytest
from PIL import Image

from bora_cli.analysis.folder import read_folder, write_folder
from bora_cli.analysis.media import read_image, webp_film, webp_image
from bora_cli.analysis.summary import RunSummary
from bora_cli.errors import DataError


def picture(value: int) -> np.ndarray:
    return np.full((32, 48, 3), value, np.uint8)


def test_folder_round_trip(tmp_path):
    table = made_up.traces(4)
    frames = {1: {t: picture(5 * t) for t in (0, 10, 20, 30)}}
    write_folder(tmp_path / "analysis", table, frames, RunSummary("pick_toy", 3))
    for path in (tmp_path, tmp_path / "analysis"):
        loaded = read_folder(path)
        assert loaded.traces.equals(table)
        assert loaded.summary == RunSummary("pick_toy", 3)
        assert sorted(loaded.thumbnails[1]) == [0, 10, 20, 30]
    nearest = loaded.frame(1, 14)
    assert nearest is not None
    assert nearest[0] == 10
    assert nearest[1].shape == (32, 48, 3)
    assert abs(int(nearest[1].mean()) - 50) < 4
    assert loaded.frame(2, 0) is None
    assert [t for t, _ in loaded.strip(1, 3)] == [0, 20, 30]
    assert loaded.strip(2) == []


def test_writing_again_replaces_the_thumbnails(tmp_path):
    table = made_up.traces(2)
    write_folder(tmp_path, table, {0: {0: picture(0)}})
    write_folder(tmp_path, table, {1: {2: picture(0)}})
    assert [p.name for p in (tmp_path / "frames").iterdir()] == ["episode_0001_tick_0002.webp"]
    assert read_folder(tmp_path).summary is None


def test_folder_refuses(tmp_path):
    with pytest.raises(DataError, match=r"no traces.parquet in .* Run `bora analyze`"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="tick 99 of episode 0, which is not in the trace table"):
        write_folder(tmp_path, made_up.traces(2), {0: {99: picture(0)}})


def test_film_loops_and_holds_its_last_frame():
    film = webp_film([picture(v) for v in (0, 90, 180)], fps=10, hold=1.0)
    with Image.open(io.BytesIO(film)) as image:
        assert image.format == "WEBP"
        assert image.n_frames == 3
        assert image.info["loop"] == 0
        image.seek(2)
        image.load()
        assert image.info["duration"] == 1100
    with pytest.raises(DataError, match="at least one frame"):
        webp_film([])


def test_pictures_survive_and_rubbish_is_refused():
    assert np.abs(read_image(webp_image(picture(120))).astype(int) - 120).max() < 4
    with pytest.raises(DataError, match="Not a readable picture"):
        read_image(b"no picture")
