"""The one place that imports MuJoCo.

`import mujoco` itself fails where the environment variable MUJOCO_GL names a graphics library that is not
installed, although physics needs none.  Then MuJoCo is imported as if the variable were unset; the renderer
still sees its value.
"""

from __future__ import annotations

import logging
import os

from bora_cli.errors import ConfigError

_SETTING = os.environ.get("MUJOCO_GL")

try:
    import mujoco
except RuntimeError as error:
    if "MUJOCO_GL" not in str(error):
        raise
    raise ConfigError(
        f"MUJOCO_GL is '{_SETTING}'; MuJoCo expects egl, osmesa, glfw or disable.",
        "Unset MUJOCO_GL, or give it one of these values.",
    ) from error
except (AttributeError, OSError) as error:
    if _SETTING is None:
        raise
    logging.getLogger(__name__).info(  # the renderer, which needs the library, gives the warning
        "MUJOCO_GL=%s, but its library cannot be loaded (%s). Install the library or unset MUJOCO_GL.",
        _SETTING,
        error,
    )
    del os.environ["MUJOCO_GL"]
    try:
        import mujoco
    finally:
        os.environ["MUJOCO_GL"] = _SETTING

__all__ = ["mujoco"]
