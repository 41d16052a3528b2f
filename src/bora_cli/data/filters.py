"""Name episodes by number or by what is known about them, without opening their ticks."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

from bora_cli.data.rows import EpisodeRow
from bora_cli.errors import ConfigError

_SIGNS = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(<=|>=|!=|<|>|=)\s*(.*?)\s*")
_WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None}
_FULL = re.compile(r"@1(\.0)?(?=\+|$)")
"""The strength of a gap that needs no saying: bias@1.0 is bias."""
_SHOWN = 12
"""Words that an error names at most."""


def parse_numbers(text: str, episodes: int) -> list[int]:
    """Return the episodes named by a list such as "3,7,10:20", in rising order; 10:20 ends before 20.

    An open end is allowed ("80:").  Raises ConfigError for anything else and for episodes that do not exist.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*|\s*(\d*)\s*:\s*(\d*)\s*", part)
        if match is None:
            raise ConfigError(
                f"'{part}' names no episodes; expected numbers and ranges such as 3,7,10:20.",
                "A range ends before its second number.",
            )
        if match[1]:
            low, high = int(match[1]), int(match[1]) + 1
        else:
            low, high = int(match[2] or 0), int(match[3] or episodes)
        if high > episodes or low >= high:
            raise ConfigError(
                f"'{part.strip()}' names episodes {low} to {high - 1}; there are 0 to {episodes - 1}.",
                "`bora data info` says how many episodes there are.",
            )
        found |= set(range(low, high))
    return sorted(found)


def about(row: EpisodeRow) -> dict[str, Any]:
    """Return what conditions may ask about an episode: its counts, then its meta data."""
    human = row.human_ticks
    gap = row.meta.get("gap")
    return {
        **row.meta,
        **({"gap": _FULL.sub("", gap)} if isinstance(gap, str) else {}),
        "index": row.index,
        "length": row.length,
        "success": row.success,
        "prompt": row.prompt,
        "decisions": row.decisions,
        "human_share": human / row.length if row.length else 0.0,
    }


def matching(rows: Sequence[EpisodeRow], conditions: Sequence[str]) -> list[int]:
    """Return the episodes that fulfil all conditions, each a text such as "success=false" or "length<20".

    An episode that lacks the key fulfils only "KEY!=..." and "KEY=none".
    Raises ConfigError for a condition that cannot be read, an unknown key, a word that no episode has there, or a
    comparison without meaning.
    """
    known = [about(row) for row in rows]
    kept = list(range(len(rows)))
    for text in conditions:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"'{text}' is not a condition; expected KEY=VALUE, KEY!=VALUE, KEY<N or KEY>N.",
                "Quote it in the shell: --where 'length<20'.",
            )
        key, sign, raw = match.groups()
        raw = _FULL.sub("", raw) if key == "gap" else raw
        if not any(key in facts for facts in known):
            names = sorted({name for facts in known for name in facts})
            raise ConfigError(f"No episode has a '{key}'.", f"Known keys: {', '.join(names)}.")
        if sign in ("=", "!="):
            _require_known([facts.get(key) for facts in known], key, raw)
        kept = [i for i in kept if _holds(known[i].get(key), sign, raw, text)]
    return [rows[i].index for i in kept]


def _require_known(values: Sequence[Any], key: str, raw: str) -> None:
    """Raise ConfigError for a word that none of the values is: "mistake!=dept" would name every episode."""
    if any(isinstance(value, list | dict) for value in values):
        raise ConfigError(f"'{key}' is no single value of an episode.", "Ask about another key.")
    words = {value for value in values if isinstance(value, str)}
    if raw in words or any(isinstance(value, int | float) for value in values):
        return
    if raw.lower() == "none" and (None in values or "none" in words):
        return
    shown = [*sorted(words)[:_SHOWN], *(["none"] if None in values else [])]
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    raise ConfigError(f"No episode has '{key}' {raw!r}.", f"There is {', '.join(shown)}{more}.")


def _holds(value: Any, sign: str, raw: str, text: str) -> bool:
    if raw.lower() == "none" and isinstance(value, str):  # a gap of that name
        value = None if value == "none" else value
    wanted = _like(value, raw, text)
    if sign in ("=", "!="):
        return bool(_SIGNS[sign](value, wanted))
    if value is None:
        return False
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"'{text}' compares {value!r}; < and > need a number.", "Use = or !=.")
    return bool(_SIGNS[sign](value, wanted))


def _like(value: Any, raw: str, text: str) -> Any:
    """Read a text as the kind of value it is compared with."""
    if raw.lower() == "none" or value is None:
        return None if raw.lower() == "none" else raw
    if isinstance(value, bool):
        if not isinstance(_WORDS.get(raw.lower()), bool):
            raise ConfigError(f"'{text}' compares {value} with '{raw}'.", "Write true or false.")
        return _WORDS[raw.lower()]
    if isinstance(value, int | float):
        try:
            return float(raw)
        except ValueError:
            raise ConfigError(f"'{text}': '{raw}' is not a number.", f"It is {value!r} elsewhere.") from None
    return raw
