"""What the documents point at is there: files, headings and modules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "datasets", "docs", "hw_profiles", "notebooks", "src", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of a page, those within lines too."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def targets(text: str) -> list[str]:
    """Return what the links and pictures of a page point at, elsewhere on the network left out."""
    found = [str(t.attrs[key]) for t in tokens(text) for key in ("href", "src") if key in t.attrs]
    found += re.findall(
        r"""(?:href|src)=["']([^"']+)""", "".join(t.content for t in tokens(text) if "html" in t.type)
    )
    return [unquote(target) for target in found if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def anchors(text: str) -> set[str]:
    """Return the names that GitHub gives the headings of a page."""
    names: list[str] = []
    before = ""
    for token in tokens(text):
        if token.type == "inline" and before == "heading_open":
            words = "".join(t.content for t in token.children or () if t.type in ("text", "code_inline"))
            name = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            names.append(name if (n := names.count(name)) == 0 else f"{name}-{n}")
        before = token.type
    return set(names)


def broken(page: Path) -> list[str]:
    """Return the targets of a page that are not there."""
    missing = []
    for target in targets(page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        inside = file.is_relative_to(ROOT) and file.exists()
        if not inside or (anchor and anchor not in anchors(file.read_text())):
            missing.append(target)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_modules_exist(page: Path) -> None:
    """`algos/cp.py` in a text is a file of the package, of the tests or of the repository."""
    for name in re.findall(r"`([\w/]+/\w+\.py)`", page.read_text()):
        assert any((folder / name).is_file() for folder in (ROOT, ROOT / "src" / "bora_cli")), name


def test_a_link_to_nowhere_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# What `bora` does: a list\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    good = (
        "[a](other.md) [b](other.md#what-bora-does-a-list) [c](other.md#twice-1) [d](#here) [e](https://x.y)"
    )
    bad = '[f](gone.md) ![g](gone.png) [h](other.md#twice-2) [i](../out.md) [j](#there) <img src="gone.svg">'
    page.write_text(f"# Here\n\n{good}\n\n{bad}\n\n`[k](code.md)`\n\n| a |\n|---|\n| [l](cell.md) |\n")
    (tmp_path.parent / "out.md").write_text("")
    assert broken(page) == [
        "gone.md",
        "gone.png",
        "other.md#twice-2",
        "../out.md",
        "#there",
        "cell.md",
        "gone.svg",
    ]
