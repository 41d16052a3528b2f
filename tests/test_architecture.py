"""Who may import whom, held on the source: rows, torch, heavy imports, docstrings, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "bora_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))

ROWS: tuple[frozenset[str], ...] = (
    frozenset({"types", "errors", "seeds"}),
    frozenset({"profiles"}),
    frozenset({"data", "input", "robot"}),
    frozenset({"control", "sim", "testing"}),
    frozenset({"models", "algos"}),
    frozenset({"checkpoint", "train", "evaluate"}),
    frozenset({"analysis"}),
    frozenset({"cli"}),
)
"""A module imports only from rows above its own, and from its own package."""

SIDEWAYS = {
    ("algos", "models"),
    ("types", "errors"),
    ("seeds", "errors"),
    ("train", "checkpoint"),
    ("evaluate", "checkpoint"),
    ("train", "evaluate"),
}
"""Within a row: the second may be imported by the first, never the other way round."""

ROW_WITHOUT_TORCH = 3
TORCH = {"torch", "transformers", "safetensors"}
HEAVY = {"torch", "transformers", "matplotlib", "polars", "pyarrow", "mujoco", "numpy", "pydantic", "marimo"}
LONGEST = 400


def part_of(path: Path) -> str:
    """Return the package or module directly under bora_cli, "" for bora_cli itself."""
    inside = path.relative_to(PACKAGE)
    name = inside.parts[0].removesuffix(".py")
    return "" if name.startswith("__") else name


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every imported module name with its line, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write bora_cli..."
            module = node.module or ""
            if module == "bora_cli":
                yield from ((f"bora_cli.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def row_of(part: str) -> int:
    return next(number for number, row in enumerate(ROWS) if part in row)


def test_every_part_has_a_row() -> None:
    parts = {part_of(path) for path in MODULES} - {""}
    assert parts <= set().union(*ROWS)


@pytest.mark.parametrize("part", sorted(set().union(*ROWS)))
def test_imports_go_up_only(part: str) -> None:
    wrong = []
    for path in MODULES:
        if part_of(path) != part:
            continue
        for name, line in imports(path):
            target = name.removeprefix("bora_cli.").split(".")[0] if name.startswith("bora_cli.") else ""
            if target in ("", "__version__", part):
                continue
            if row_of(target) >= row_of(part) and (part, target) not in SIDEWAYS:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_sideways_imports_have_one_direction() -> None:
    assert not {(b, a) for a, b in SIDEWAYS} & SIDEWAYS
    assert all(row_of(a) == row_of(b) for a, b in SIDEWAYS)


def test_the_robot_computer_needs_no_torch() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES
        if part_of(path) and row_of(part_of(path)) <= ROW_WITHOUT_TORCH
        for name, line in imports(path)
        if name.split(".")[0] in TORCH
    ]
    assert not wrong, "\n".join(wrong)


def test_only_ui_knows_rich() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in MODULES
        for name, line in imports(path)
        if name.split(".")[0] == "rich" and path != PACKAGE / "cli" / "ui.py"
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_bora_imports_nothing_heavy() -> None:
    code = "import sys, bora_cli; print(*(sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(result.stdout.split())


def test_control_runs_without_torch() -> None:
    """Everything up to row 3 can be imported where torch is not installed."""
    names = [
        ".".join(("bora_cli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in MODULES
        if part_of(path) and row_of(part_of(path)) <= ROW_WITHOUT_TORCH
    ]
    code = (
        "import sys, importlib\n"
        f"sys.modules.update(dict.fromkeys({sorted(TORCH)!r}))\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def public_nodes(path: Path) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_public_names_have_docstrings() -> None:
    bare = [
        name
        for path in MODULES
        for name, node in public_nodes(path)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not ast.get_docstring(node)
    ]
    assert not bare, "\n".join(bare)


def test_modules_say_what_they_are() -> None:
    bare = [
        str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not bare, "\n".join(bare)


def test_no_module_is_too_long() -> None:
    sources = [*MODULES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("notebooks/*.py")]
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in sources}
    long = [f"{path} has {length} lines" for path, length in lengths.items() if length > LONGEST]
    assert not long, "\n".join(long)


def test_the_library_does_not_print() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_swallowed() -> None:
    """No bare `except:` and no `except Exception: pass`."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (len(node.body) == 1 and isinstance(node.body[0], ast.Pass)))
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_test_files_have_unique_names() -> None:
    """Without __init__.py files pytest needs distinct basenames."""
    names = [path.name for path in ROOT.glob("tests/**/test_*.py")]
    assert len(names) == len(set(names)), sorted({n for n in names if names.count(n) > 1})
