"""Options that depend on a method: those it would ignore are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import typer

from bora_cli.cli import options as o
from bora_cli.errors import ConfigError


def require_used(ctx: typer.Context, method: str, takes: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError for options that were given and that the method does not use.

    takes: for every method, which of the options that depend on the method it uses.
    """
    optional = list(dict.fromkeys(option for options in takes.values() for option in options))
    given = [f"--{name.replace('_', '-')}" for name in ctx.params if o.was_given(ctx, name)]
    unused = [option for option in given if option in optional and option not in takes[method]]
    if not unused:
        return
    hint = "Leave it out." if len(unused) == 1 else "Leave them out."
    if "--init" in unused:
        hint += " --init names the policy that bora improves, or that bc_interventions corrects."
    raise ConfigError(
        f"{method} has no use for {', '.join(unused)}; of {', '.join(optional)} it takes"
        f" {', '.join(takes[method])}.",
        hint,
    )
