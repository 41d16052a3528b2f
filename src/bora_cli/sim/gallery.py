"""One picture of the suite: every task in every setting, caught in the act by the scene camera.

The pictures are for people: closer than what policies see, with a stronger sun whose shadows are soft, since
each picture is the mean of several under slightly different suns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError
from bora_cli.seeds import stream
from bora_cli.sim.appearance import SCENE_CAMERA
from bora_cli.sim.arm_hand import look_at
from bora_cli.sim.engine import mujoco
from bora_cli.sim.operator import EXPERT, SimulatedOperator
from bora_cli.sim.render import Renderer
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks import TASKS, get_task
from bora_cli.types import U8

Progress = Callable[[str, int, int], None]

STILL = "light=fixed,table=fixed,camera=fixed"
ROWS: tuple[tuple[str, str], ...] = (
    ("standard objects", f"standard,{STILL}"),
    ("unseen objects", f"unseen,{STILL}"),
    ("everything varied", "standard,hue=any,light=wide,table=wide,camera=wide,distractors=3"),
)
"""Caption -> setting of each row."""
TITLES = {
    "pick_toy": "pick up the toy",
    "open_box": "open the box",
    "press_button": "press the button",
    "pick_place": "pick and place",
    "pull_tissue": "pull a tissue",
}
SCENE_SEED = 650_000
ASPECT = 0.86
"""Height of a picture as a share of its width."""
CAUGHT = 0.45
"""Share of the success condition at which the expert is caught."""
FOVY, WIDER = 30.0, 35.0
"""Field of view, degrees; the wider one for two objects."""
SUNS = 32
SUN_SPREAD = 0.065
"""Number of suns, and how far they stand from the middle one, as a share of their distance."""
LOWEST_SUN, SUN_DISTANCE, SHADOWED = 0.6, 1.5, 0.7
"""Slant of the lowest sun (sine), its distance, and half the width of what can throw shadows, m."""
INK, QUIET, PAPER = (33, 37, 43), (110, 117, 126), (255, 255, 255)


@dataclass(frozen=True)
class Sheet:
    """Sizes of the sheet, px.  cell: width of a picture.  gap: between pictures.  head: height of titles."""

    cell: int = 384
    gap: int = 12
    head: int = 58
    label: int = 46

    @property
    def height(self) -> int:
        return round(self.cell * ASPECT)


def gallery(
    *, backend: str = "auto", sheet: Sheet = Sheet(), suns: int = SUNS, progress: Progress | None = None
) -> U8:
    """Return the sheet, uint8 [H, W, 3]: a column per task, a row per entry of `ROWS`."""
    pictures: list[list[U8]] = []
    with Renderer(backend) as renderer:
        for row, (_, setting) in enumerate(ROWS):
            pictures.append([])
            for column, task in enumerate(TASKS):
                pictures[-1].append(portrait(renderer, task, setting, SCENE_SEED + column, sheet, suns))
                if progress is not None:
                    progress("gallery", row * len(TASKS) + column + 1, len(ROWS) * len(TASKS))
    titles = [TITLES.get(task, task.replace("_", " ")) for task in TASKS]
    return compose(pictures, titles, [caption for caption, _ in ROWS], sheet)


def portrait(renderer: Renderer, task: str, setting: str, scene_seed: int, sheet: Sheet, suns: int) -> U8:
    """Return a picture of the expert half-way through a task, uint8 [sheet.height, sheet.cell, 3]."""
    sim = Simulation(task, setting=setting)
    sim.prepare(scene_seed)
    operator = SimulatedOperator(EXPERT, stream("operator", scene_seed))
    operator.begin(sim)
    for _ in range(sim.max_ticks):
        action, stops = operator.act(sim)
        if stops or sim.step(action).terminated or sim.privileged().progress >= CAUGHT:
            break
    model, data = sim.model, sim.data
    light_up(model)
    part_faces(model)
    if "camera=fixed" in setting:
        aim_camera(model, sim.privileged().target_start, get_task(task).crowded)
    start = model.light_dir[0] / np.linalg.norm(model.light_dir[0])
    start[:2] *= min(1.0, LOWEST_SUN / max(float(np.linalg.norm(start[:2])), 1e-9))
    middle = sim.privileged().target_start
    total: NDArray[np.float64] = np.zeros((sheet.cell, sheet.cell, 3))
    for angle in np.arange(suns) * 2.399963:  # the golden angle spreads them evenly
        reach = SUN_SPREAD * np.sqrt(angle / (suns * 2.399963))
        model.light_dir[0] = start + reach * np.array([np.cos(angle), np.sin(angle), 0.0])
        model.light_pos[0] = middle - SUN_DISTANCE * model.light_dir[0]
        mujoco.mj_camlight(model, data)
        total += renderer.images(model, data, ("scene",), sheet.cell, fancy=True)["scene"]
    top = (sheet.cell - sheet.height) // 2
    return (total[top : top + sheet.height] / suns + 0.5).astype(np.uint8)


def light_up(model: Any) -> None:
    """Give the sun a larger share of the light, so that shapes have a lit and a dark side."""
    tint = model.light_diffuse[0] / max(float(model.light_diffuse[0].max()), 1e-6)
    model.light_diffuse[0] = 0.60 * tint
    model.light_specular[0] = 0.0
    model.vis.headlight.ambient[:] = 0.50 * tint
    model.vis.headlight.diffuse[:] = 0.14 * tint
    model.vis.headlight.specular[:] = 0.0
    model.vis.map.shadowclip = SHADOWED


def part_faces(model: Any) -> None:
    """Shrink the parts of a body a little, each by another amount: faces in one plane would flicker."""
    seen: dict[int, int] = {}
    flat = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER)
    for i in np.flatnonzero(np.isin(model.geom_type, flat)):
        body = int(model.geom_bodyid[i])
        if model.body(body).name == "planks":
            continue
        seen[body] = seen.get(body, -1) + 1
        model.geom_size[i] *= 1.0 - 0.002 * seen[body]


def aim_camera(model: Any, target: NDArray[np.float64], crowded: bool) -> None:
    """Turn the scene camera to the object, or between several, and zoom in."""
    camera = model.camera("scene").id
    eye = np.array(SCENE_CAMERA)
    near = 0.4 if crowded else 0.7
    at = near * target + (1.0 - near) * np.array([0.47, 0.0, 0.0]) + np.array([0.0, 0.0, 0.065])
    model.cam_pos[camera], model.cam_quat[camera] = eye, look_at(eye, at)
    model.cam_fovy[camera] = WIDER if crowded else FOVY


def compose(
    pictures: Sequence[Sequence[U8]], titles: Sequence[str], captions: Sequence[str], sheet: Sheet
) -> U8:
    """Return one sheet of pictures in rows, with a title per column and a caption above each row.

    Raises ConfigError where Pillow is missing.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise ConfigError("Pillow is not installed; it writes the titles.", "pip install pillow") from error
    columns = len(titles)
    width = columns * sheet.cell + (columns - 1) * sheet.gap
    block = sheet.label + sheet.height
    page = Image.new("RGB", (width, sheet.head + len(pictures) * block), PAPER)
    draw = ImageDraw.Draw(page)
    large, small = ImageFont.load_default(0.088 * sheet.cell), ImageFont.load_default(0.066 * sheet.cell)
    for i, title in enumerate(titles):
        middle = i * (sheet.cell + sheet.gap) + sheet.cell / 2
        draw.text((middle, 0.55 * sheet.head), title, INK, large, anchor="mm")
    for j, (row, caption) in enumerate(zip(pictures, captions, strict=True)):
        y = sheet.head + j * block
        draw.text((2, y + 0.52 * sheet.label), caption, QUIET, small, anchor="lm")
        for i, picture in enumerate(row):
            page.paste(Image.fromarray(picture), (i * (sheet.cell + sheet.gap), y + sheet.label))
    return np.asarray(page)
