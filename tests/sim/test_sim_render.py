"""Rendering: OpenGL and rays agree, one context serves many models, and nothing needs OpenGL to be there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import mujoco
import numpy as np
import pytest

from bora_cli.errors import ConfigError, MissingSystemLibrary
from bora_cli.sim.arm_hand import ARM_HOME
from bora_cli.sim.render import Renderer, candidates, probe_backends, why_not
from bora_cli.sim.scene import build_model, draw_layout
from bora_cli.sim.scene_options import SceneOptions
from bora_cli.sim.tasks import TASKS

CAMERAS = ("scene", "wrist")
VARIED = SceneOptions(hue="any", light="wide", table="wide", camera="wide", distractors=2)
no_egl = why_not("egl")
needs_egl = pytest.mark.skipif(bool(no_egl), reason=f"EGL: {no_egl}")

WITHOUT_LIBRARIES = """
import ctypes, ctypes.util, logging, os, sys
HIDDEN = ("libEGL", "libOSMesa", "libGL")
plain = ctypes.CDLL.__init__
def load(self, name, *args, **kwargs):
    base = os.path.basename(str(name or ""))
    if base.startswith(HIDDEN) or "lib" + base in HIDDEN:
        raise OSError(base + ": cannot open shared object file")
    plain(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = load
ctypes.util.find_library = lambda name: None

logging.basicConfig(level=logging.WARNING, format="%(name)s %(levelname)s %(message)s")
import bora_cli.sim.simulation as simulation
sim = simulation.Simulation("press_button")
image = sim.reset(610_000).images["scene"]
second = simulation.Simulation("press_button").reset(610_000).images["scene"]
print(sim.backend, os.environ.get("MUJOCO_GL"), image.std() > 5, (image == second).all())
"""

FORKED = """
import os, sys
from bora_cli.errors import DeviceError
from bora_cli.sim.simulation import Simulation
sim = Simulation("press_button", backend="egl")
sim.reset(610_000)
child = os.fork()
if child == 0:
    try:
        sim.observe()
    except DeviceError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
sim.observe()
print("parent renders")
"""


def scene(
    task: str, seed: int = 610_000, options: SceneOptions = SceneOptions()
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = build_model(draw_layout(task, "standard", seed, options))
    data = mujoco.MjData(model)
    data.qpos[:7] = ARM_HOME
    mujoco.mj_forward(model, data)
    return model, data


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=kept | environment,
    )


@needs_egl
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("options", [SceneOptions(), VARIED], ids=["usual", "varied"])
def test_rays_look_like_opengl(task: str, options: SceneOptions) -> None:
    with Renderer("egl") as gl, Renderer("rays") as rays:
        for seed in (610_000, 610_001):
            model, data = scene(task, seed, options)
            a, b = (r.images(model, data, CAMERAS, 64) for r in (gl, rays))
            for camera in CAMERAS:
                difference = np.abs(a[camera].astype(int) - b[camera])
                assert difference.mean() < 1.5
                assert (difference.max(axis=-1) > 20).mean() < 0.04


@needs_egl
def test_one_context_serves_interleaved_models_and_sizes() -> None:
    scenes = [scene(task) for task in TASKS]
    with Renderer("egl") as a, Renderer("egl") as b:
        alone = []
        for model, data in scenes:
            with Renderer("egl") as fresh:
                alone.append(fresh.images(model, data, CAMERAS, 64))
        for _ in range(2):
            for (model, data), expected in zip(scenes, alone, strict=True):
                for renderer in (a, b):
                    renderer.images(model, data, ("scene",), 96)
                    renderer.images(model, data, ("scene",), 48, fancy=True)
                    images = renderer.images(model, data, CAMERAS, 64)
                    assert all(np.array_equal(images[c], expected[c]) for c in CAMERAS)


@needs_egl
def test_threads_take_turns() -> None:
    model, data = scene("pick_toy")
    with Renderer("egl") as expected_from:
        expected = expected_from.images(model, data, ("scene",), 64)["scene"]
    wrong: list[str] = []

    def work() -> None:
        mine, state = scene("pick_toy")
        with Renderer("egl") as renderer:
            for _ in range(5):
                if not np.array_equal(renderer.images(mine, state, ("scene",), 64)["scene"], expected):
                    wrong.append(threading.current_thread().name)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_egl
def test_many_models_do_not_exhaust_the_context() -> None:
    model, data = scene("open_box")
    with Renderer("egl") as renderer:
        first = renderer.images(model, data, ("scene",), 64)["scene"]
        for seed in range(610_000, 610_060):
            renderer.images(*scene("press_button", seed), ("scene",), 64)
        assert np.array_equal(renderer.images(model, data, ("scene",), 64)["scene"], first)


@needs_egl
def test_a_fork_is_refused_and_the_parent_goes_on() -> None:
    result = run(FORKED)
    lines = result.stdout.strip().splitlines()
    assert "a context does not survive a fork" in lines[0]
    assert '"spawn"' in lines[0]
    assert lines[1:] == ["parent renders"]
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("setting", ["", "egl", "osmesa", "glfw", "disable"])
def test_without_any_library_rays_take_over_with_one_explanation(setting: str) -> None:
    result = run(WITHOUT_LIBRARIES, **({"MUJOCO_GL": setting} if setting else {}))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["rays", setting or "None", "True", "True"]
    warnings = [line for line in result.stderr.splitlines() if "WARNING" in line]
    if setting == "disable":
        assert warnings == []
    else:
        assert len(warnings) == 1
        assert warnings[0].startswith("bora_cli.sim.render WARNING No OpenGL, images are ray-cast")


def test_a_nonsensical_setting_names_the_good_ones() -> None:
    result = run("import bora_cli.sim.render", MUJOCO_GL="vulkan")
    assert "MUJOCO_GL is 'vulkan'; MuJoCo expects egl, osmesa, glfw or disable." in result.stderr


@pytest.mark.parametrize(
    ("setting", "order"),
    [
        ("", ("egl", "osmesa", "rays")),
        ("egl", ("egl", "rays")),
        ("OSMesa", ("osmesa", "rays")),
        ("glfw", ("native", "rays")),
        ("off", ("rays",)),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the order is another one elsewhere")
def test_the_setting_of_the_user_decides_what_is_tried(
    monkeypatch: pytest.MonkeyPatch, setting: str, order: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", setting)
    assert candidates() == order


def test_a_named_backend_that_is_missing_says_what_to_install() -> None:
    lines = WITHOUT_LIBRARIES.splitlines()
    code = "\n".join(lines[: lines.index("ctypes.util.find_library = lambda name: None") + 1])
    result = run(code + "\nfrom bora_cli.sim.render import Renderer\nRenderer('egl')")
    assert MissingSystemLibrary.__name__ in result.stderr
    assert "Renderer 'egl' cannot be opened: libEGL.so.1 is not installed." in result.stderr
    assert "Install the system package libegl1" in result.stderr


def test_probing_covers_every_backend_and_gives_reasons() -> None:
    found = probe_backends()
    assert [name for name, _, _ in found] == ["egl", "osmesa", "native", "rays"]
    assert found[-1] == ("rays", True, "")
    assert all(ok != bool(why) for _, ok, why in found)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Unknown renderer 'vulkan'\. Known renderers: auto, egl, osmesa"):
        Renderer("vulkan")
    with pytest.raises(ConfigError, match=r"no camera 'ceiling'\. Its cameras: scene, wrist"):
        Renderer("rays").images(*scene("pick_toy"), ("ceiling",), 32)


@pytest.mark.parametrize("backend", ["rays", pytest.param("egl", marks=needs_egl)])
def test_rendering_leaves_the_model_as_it_was(backend: str) -> None:
    model, data = scene("pick_toy")
    model.vis.quality.shadowsize = 4096
    quality = model.vis.quality
    before = (quality.numslices, quality.offsamples, quality.shadowsize, model.vis.global_.offwidth)
    with Renderer(backend) as renderer:
        images = renderer.images(model, data, CAMERAS, 32)
        fancy = renderer.images(model, data, ("scene",), 48, fancy=True)["scene"]
    assert (quality.numslices, quality.offsamples, quality.shadowsize, model.vis.global_.offwidth) == before
    assert images["wrist"].shape == (32, 32, 3)
    assert fancy.shape == (48, 48, 3)
    assert images["scene"].flags.c_contiguous


@pytest.mark.parametrize("backend", ["rays", pytest.param("egl", marks=needs_egl)])
def test_images_are_upright_and_not_mirrored(backend: str) -> None:
    """Look along +x from behind: a red ball on the robot's left (+y), a blue one above the centre."""
    spec = mujoco.MjSpec()
    ball = mujoco.mjtGeom.mjGEOM_SPHERE
    spec.worldbody.add_geom(type=ball, size=[0.1, 0, 0], pos=[1, 0.3, 0], rgba=[1, 0, 0, 1])
    spec.worldbody.add_geom(type=ball, size=[0.1, 0, 0], pos=[1, 0, 0.3], rgba=[0, 0, 1, 1])
    spec.worldbody.add_camera(name="eye", pos=[0, 0, 0], quat=[0.5, 0.5, -0.5, -0.5], fovy=60)
    spec.stat.extent = 1.0
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with Renderer(backend) as renderer:
        image = renderer.images(model, data, ("eye",), 40)["eye"].astype(int)
    rows, columns = np.nonzero(image[..., 0] > image[..., 2] + 30)
    assert columns.mean() < 15
    assert abs(rows.mean() - 19.5) < 2
    rows, columns = np.nonzero(image[..., 2] > image[..., 0] + 30)
    assert rows.mean() < 15
    assert abs(columns.mean() - 19.5) < 2
