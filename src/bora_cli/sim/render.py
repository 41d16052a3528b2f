"""Camera images of a simulated scene: OpenGL without a display where it exists, rays everywhere else.

Order of the automatic choice: EGL, OSMesa, rays.  The environment variable MUJOCO_GL narrows it: egl, osmesa
or glfw try only that library before the rays, `disable` goes to the rays at once.  The variable is never
changed.  Images of OpenGL and of the rays differ by less than 2 of 255 on average, but a comparison should
not mix them; the choice is `Renderer.backend`, to be stored with the data.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import subprocess
import sys
import warnings
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from bora_cli.errors import ConfigError, MissingSystemLibrary
from bora_cli.sim.gl import GlDevice, GlPainter
from bora_cli.sim.rays import RayPainter
from bora_cli.types import U8

BACKENDS = ("egl", "osmesa", "native", "rays")
_LIBRARIES = {
    "egl": ("libEGL.so.1", "libEGL.so"),
    "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
}
_REMEDIES = {
    "egl": "Install the system package libegl1 (Debian, Ubuntu) or use rays.",
    "osmesa": "Install the system package libosmesa6 (Debian, Ubuntu) or use rays.",
    "native": "Run where there is a display, or use egl, osmesa or rays.",
}
_MEANINGS = {
    "eglQueryString": "its OpenGL library is not installed",
    "glGetError": "its OpenGL library is not installed",
    "OpenGL platform library has not been loaded": "there is no display or no OpenGL library",
    "gladLoadGL": "there is no display or no OpenGL library",
    "'GLContext'": "MUJOCO_GL disables OpenGL",
    "EGL device display": "its library finds no graphics driver",
    "PYOPENGL_PLATFORM": "another OpenGL library was loaded first; set MUJOCO_GL to this one's name",
}
"""Part of an error text of MuJoCo or PyOpenGL -> what it means; the full texts vary between versions."""
_PROBE_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


class Painter(Protocol):
    """Paints one camera of a model after the other.  ready: holds what it needs meanwhile."""

    def ready(self) -> AbstractContextManager[None]: ...
    def paint(self, model: Any, data: Any, camera: int, size: int, fancy: bool) -> U8: ...
    def close(self) -> None: ...


class Renderer:
    """Renders cameras of any number of models, one after the other.

    backend: auto, egl, osmesa, native (GLFW, or the system's own) or rays.  After opening, the attribute of
    this name says which one it is, never "auto".
    Raises ConfigError for an unknown name, MissingSystemLibrary where a backend named explicitly cannot be
    opened.
    """

    def __init__(self, backend: str = "auto") -> None:
        if backend not in ("auto", *BACKENDS):
            raise ConfigError(
                f"Unknown renderer '{backend}'.", f"Known renderers: auto, {', '.join(BACKENDS)}."
            )
        choice = _choose(candidates() if backend == "auto" else (backend,))
        self.backend = choice.backend
        self._painter: Painter = GlPainter(choice.device) if choice.device else RayPainter()
        weakref.finalize(self, self._painter.close).atexit = False

    def images(
        self, model: Any, data: Any, cameras: Sequence[str], size: int, *, fancy: bool = False
    ) -> dict[str, U8]:
        """Return camera name -> uint8 [size, size, 3].

        data: with positions computed (`mj_forward` or `mj_fwdPosition`).  size: side in px.  fancy: shadows,
        highlights and smooth shapes, for people; policies see the plain images.
        Raises ConfigError for a camera the model lacks, DeviceError in a fork of the process that opened
        OpenGL.
        """
        names = [model.camera(i).name for i in range(model.ncam)]
        for name in cameras:
            if name not in names:
                raise ConfigError(f"The model has no camera '{name}'.", f"Its cameras: {', '.join(names)}.")
        paint = self._painter.paint
        with self._painter.ready():
            return {name: paint(model, data, names.index(name), size, fancy) for name in cameras}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what belongs to this renderer; safe to call twice.  Rendering again builds it anew."""
        self._painter.close()


def candidates() -> tuple[str, ...]:
    """Return the backends that the automatic choice tries, in order."""
    setting = os.environ.get("MUJOCO_GL", "").lower().strip()
    if setting in ("disable", "disabled", "off", "false", "0"):
        return ("rays",)
    if platform.system() != "Linux" or setting not in ("", "egl", "osmesa"):
        return ("native", "rays")
    return (setting, "rays") if setting else ("egl", "osmesa", "rays")


def probe_backends() -> list[tuple[str, bool, str]]:
    """Return (backend, whether it renders, why not); each one is tried alone in a process of its own."""
    whys = [(name, _why_not_alone(name)) for name in BACKENDS]
    return [(name, not why, why) for name, why in whys]


def why_not(backend: str) -> str:
    """Return why a backend cannot be opened in this process, or "" if it can."""
    if backend == "rays":
        return ""
    try:
        _open(backend)
    except Exception as error:  # the bindings raise almost anything: AttributeError, FatalError, GLError ...
        text = " ".join(str(error).split()) or type(error).__name__
        return next((meaning for part, meaning in _MEANINGS.items() if part in text), text)
    return ""


@dataclass(frozen=True)
class _Choice:
    backend: str
    device: GlDevice | None


@cache  # one OpenGL context and one explanation per process
def _choose(names: tuple[str, ...]) -> _Choice:
    """Open the first backend that works.  Raises MissingSystemLibrary if none does."""
    failures: dict[str, str] = {}
    for name in names:
        why = why_not(name)
        if not why:
            _explain(name, failures)
            return _Choice(name, None if name == "rays" else _open(name))
        failures[name] = why
    raise MissingSystemLibrary(f"Renderer '{names[0]}' cannot be opened: {why}.", _REMEDIES[names[0]])


@cache
def _open(name: str) -> GlDevice:
    libraries = _LIBRARIES.get(name, ())
    # Looked for first: importing the bindings ties PyOpenGL to this library for the life of the process.
    if libraries and not any(_loadable(library) for library in libraries):
        raise OSError(f"{libraries[0]} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GLFW warns where there is no display; so do we, once
        return GlDevice(name)


def _loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _explain(chosen: str, failures: dict[str, str]) -> None:
    because = "; ".join(f"{name}: {why}" for name, why in failures.items())
    log.info("Rendering with %s%s.", chosen, f" ({because})" if because else "")
    if chosen == "rays" and failures:
        log.warning("No OpenGL, images are ray-cast, which is slower. %s", _REMEDIES[next(iter(failures))])


def _why_not_alone(name: str) -> str:
    code = f"from bora_cli.sim.render import why_not; print(why_not({name!r}))"
    neutral = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    try:
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
            env=neutral,
        )
    except subprocess.TimeoutExpired:
        return f"no answer after {_PROBE_TIMEOUT_S:g} s"
    if result.returncode != 0:
        return f"its process ended with exit code {result.returncode}"
    return result.stdout.strip()
