"""Camera images through OpenGL: one context per process, rebuilt scene buffers per model.

Software OpenGL is bound by vertices, not by pixels, at the sizes policies see; so training images use coarse
shapes and no shadow.  Creating `mujoco.Renderer` per model costs more than compiling the model (a scene
buffer of 10,000 geoms, a shadow map); what is built here costs about 1 ms.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bora_cli.errors import DeviceError
from bora_cli.sim.engine import mujoco
from bora_cli.types import U8


@dataclass(frozen=True)
class Quality:
    """Detail of a kind of image.

    slices, stacks: facets of a round shape.  samples: anti-aliasing samples per pixel, 0 for none.
    shadow: side of the shadow map in texels, 0 for no shadows.  specular: whether lights make highlights.
    """

    slices: int
    stacks: int
    samples: int
    shadow: int
    specular: bool


PLAIN = Quality(slices=12, stacks=6, samples=0, shadow=0, specular=False)
FANCY = Quality(slices=28, stacks=16, samples=4, shadow=2048, specular=True)


class GlDevice:
    """An OpenGL context of this process; usable from one thread at a time, never after a fork.

    kind: egl, osmesa, or native (GLFW, or what the operating system offers).
    Raises whatever opening the library raises; `bora_cli.sim.render` turns that into an explanation.
    """

    def __init__(self, kind: str) -> None:
        # Software Mesa then draws on the calling thread, which is faster for small images.
        os.environ.setdefault("LP_NUM_THREADS", "0")
        self.kind = kind
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._context = _context_class(kind)(64, 64)
        with self.current():
            # Some drivers open a context and fail only here.
            mujoco.MjrContext(mujoco.MjSpec().compile(), mujoco.mjtFontScale.mjFONTSCALE_50).free()

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that opened the context."""
        return os.getpid() != self._process

    @contextmanager
    def current(self) -> Iterator[None]:
        """Hold the context for this thread; afterwards it is free for any other one.

        Raises DeviceError in a forked process.
        """
        if self.inherited:
            raise DeviceError(
                f"The OpenGL context of process {self._process} was used in its fork {os.getpid()};"
                " a context does not survive a fork.",
                'Start worker processes with the "spawn" method, or render only in them.',
            )
        with self._lock, self._context.as_current():
            yield


def _context_class(kind: str) -> Any:
    """Return MuJoCo's class of OpenGL contexts for a kind; raises if its library cannot be loaded."""
    if kind == "egl":
        from mujoco.egl import GLContext as EglContext

        return EglContext
    if kind == "osmesa":
        from mujoco.osmesa import GLContext as OsmesaContext

        return OsmesaContext
    if platform.system() == "Linux":
        from mujoco.glfw import GLContext as GlfwContext

        return GlfwContext
    return mujoco.GLContext


@dataclass
class _Buffers:
    """What OpenGL keeps for one model at one quality."""

    model: Any
    size: int
    context: Any
    scene: Any


class GlPainter:
    """Paints cameras of any model; keeps the buffers of the model it painted last, per quality."""

    def __init__(self, device: GlDevice) -> None:
        self._device = device
        self._buffers: dict[bool, _Buffers] = {}
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0

    def ready(self) -> AbstractContextManager[None]:
        """Hold the OpenGL context while several cameras are painted.  Raises DeviceError in a forked process."""
        return self._device.current()

    def paint(self, model: Any, data: Any, camera: int, size: int, fancy: bool) -> U8:
        """Return uint8 [size, size, 3].  Raises DeviceError in a forked process."""
        quality = FANCY if fancy else PLAIN
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = camera
        window = mujoco.MjrRect(0, 0, size, size)
        image = np.empty((size, size, 3), np.uint8)
        with self._device.current():
            buffers = self._buffers_for(model, size, fancy)
            scene = buffers.scene
            mujoco.mjv_updateScene(model, data, self._options, None, view, mujoco.mjtCatBit.mjCAT_ALL, scene)
            for light in scene.lights[: scene.nlight]:
                light.castshadow = quality.shadow > 0 and not light.headlight
                if not quality.specular:
                    light.specular[:] = 0.0
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, buffers.context)
            mujoco.mjr_render(window, scene, buffers.context)
            mujoco.mjr_readPixels(image, None, window, buffers.context)
        return np.ascontiguousarray(image[::-1])  # OpenGL's first row is the bottom one

    def close(self) -> None:
        """Release the buffers; the OpenGL context stays for the next painter."""
        if self._device.inherited or not self._buffers:
            return
        with self._device.current():
            for buffers in self._buffers.values():
                buffers.context.free()
        self._buffers.clear()

    def _buffers_for(self, model: Any, size: int, fancy: bool) -> _Buffers:
        known = self._buffers.get(fancy)
        if known is not None and known.model is model and known.size >= size:
            return known
        if known is not None:
            known.context.free()
            del self._buffers[fancy]
        quality = FANCY if fancy else PLAIN
        with _visual_quality(model, quality, size):
            context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 16)
        flags = scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = quality.shadow > 0
        for unused in ("REFLECTION", "SKYBOX", "FOG", "HAZE"):
            flags[getattr(mujoco.mjtRndFlag, f"mjRND_{unused}")] = False
        self._buffers[fancy] = _Buffers(model, size, context, scene)
        return self._buffers[fancy]


@contextmanager
def _visual_quality(model: Any, quality: Quality, size: int) -> Iterator[None]:
    """Let the model ask for these settings while its OpenGL buffers are made, then restore its own."""
    asked = model.vis.quality
    frame = model.vis.global_
    before = (
        asked.numslices,
        asked.numstacks,
        asked.offsamples,
        asked.shadowsize,
        frame.offwidth,
        frame.offheight,
    )
    try:
        asked.numslices, asked.numstacks = quality.slices, quality.stacks
        asked.offsamples, asked.shadowsize = quality.samples, quality.shadow
        frame.offwidth = frame.offheight = size
        yield
    finally:
        (
            asked.numslices,
            asked.numstacks,
            asked.offsamples,
            asked.shadowsize,
            frame.offwidth,
            frame.offheight,
        ) = before
