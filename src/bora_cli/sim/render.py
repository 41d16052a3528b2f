"""Camera images of a simulated scene: OpenGL without a display where it exists, rays everywhere else.

Order of the automatic choice: EGL, OSMesa, rays.  The environment variable MUJOCO_GL narrows it: egl, osmesa
or glfw try only that library before the rays, `disable` goes to the rays at once.  The variable is never
changed.  Images of OpenGL and of the rays differ by less than 2 of 255 on average, but a comparison should not
mix them; the choice is `Renderer.backend`, to be stored with the data.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import subprocess
import sys
import weakref
from collections.abc import Sequence
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
_PACKAGES = {"egl": "libegl1", "osmesa": "libosmesa6"}
_PROBE_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


class Painter(Protocol):
    """Paints one camera of a model."""

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
        choice = _choose(candidates()) if backend == "auto" else _choose((backend,))
        self.backend = choice.backend
        self._painter: Painter = GlPainter(choice.device) if choice.device else RayPainter()
        weakref.finalize(self, self._painter.close).atexit = False

    def images(
        self, model: Any, data: Any, cameras: Sequence[str], size: int, *, fancy: bool = False
    ) -> dict[str, U8]:
        """Return camera name -> uint8 [size, size, 3].

        data: with positions computed (`mj_forward` or `mj_fwdPosition`, `mj_camlight`).  size: side in px.
        fancy: shadows, highlights and smooth shapes, for people; policies see the plain images.
        Raises ConfigError for a camera the model lacks, DeviceError in a fork of the process that opened
        OpenGL.
        """
        names = [model.camera(i).name for i in range(model.ncam)]
        for name in cameras:
            if name not in names:
                raise ConfigError(f"The model has no camera '{name}'.", f"Its cameras: {', '.join(names)}.")
        return {name: self._painter.paint(model, data, names.index(name), size, fancy) for name in cameras}

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
    """Return (backend, whether it renders, why not); each backend is tried in a process of its own."""
    return [(name, *_probe(name)) for name in BACKENDS]


def _probe(name: str) -> tuple[bool, str]:
    code = f"from bora_cli.sim.render import Renderer; Renderer({name!r})"
    try:
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer after {_PROBE_TIMEOUT_S:g} s"
    lines = result.stderr.strip().splitlines() or [f"ended with exit code {result.returncode}"]
    return result.returncode == 0, "" if result.returncode == 0 else lines[-1].partition(": ")[2] or lines[-1]


@dataclass(frozen=True)
class _Choice:
    backend: str
    device: GlDevice | None


@cache  # one OpenGL context per process, and one explanation
def _choose(names: tuple[str, ...]) -> _Choice:
    """Open the first backend that works."""
    failures: dict[str, str] = {}
    for name in names:
        if name == "rays":
            _explain(name, failures)
            return _Choice(name, None)
        try:
            device = _open(name)
        except (
            Exception
        ) as error:  # OpenGL bindings raise almost anything: AttributeError, FatalError, GLError ...
            failures[name] = _reason(name, error)
        else:
            _explain(name, failures)
            return _Choice(name, device)
    (name, reason) = next(iter(failures.items()))
    raise MissingSystemLibrary(f"Renderer '{name}' cannot be opened: {reason}.", _remedy(name))


@cache
def _open(name: str) -> GlDevice:
    libraries = _LIBRARIES.get(name, ())
    # Looked for first: importing the bindings would tie PyOpenGL to this library for good.
    if libraries and not any(_loadable(library) for library in libraries):
        raise OSError(f"library {libraries[0]} is not installed")
    return GlDevice(name)


def _loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _reason(name: str, error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    known = ("eglQueryString", "glGetError", "OpenGL platform library has not been loaded", "'GLContext'")
    if any(part in text for part in known):
        return f"its OpenGL library is not installed or has no display ({text})"
    return text


def _explain(chosen: str, failures: dict[str, str]) -> None:
    why = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    log.info("Rendering with %s%s", chosen, f" because others failed ({why})." if why else ".")
    if chosen == "rays" and failures:
        log.warning("No OpenGL: images are ray-cast, several times slower. %s", _remedy(next(iter(failures))))


def _remedy(name: str) -> str:
    package = _PACKAGES.get(name)
    if package is None:
        return "Use another renderer, or run where a display exists."
    return f"Install the system package {package} (Debian, Ubuntu), or use the renderer rays."
