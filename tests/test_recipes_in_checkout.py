"""The recipes, followed in a copy of the checkout: the file is written, the line added, and the example run afresh."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("channel", "ranker", "tower", "item-loss", "reader", "scenario-kind")
KEYS_APART = {"item-loss": "item_loss_configs", "tower": "tower_configs"}
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def defined(code):
    """Names of the classes, functions and values at the top of a module."""
    found = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def add_import(path, module, names):
    """Imports of a module go behind its docstring."""
    text = path.read_text(encoding="utf-8")
    end = ast.parse(text).body[0].end_lineno
    lines = text.splitlines(keepends=True)
    lines.insert(end, f"\nfrom {module} import {', '.join(sorted(names))}\n")
    path.write_text("".join(lines), encoding="utf-8")


def follow(page, checkout):
    """Do in a checkout what a page says; its example is returned."""
    text = (ROOT / "docs" / "recipes" / f"{page}.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    name, folder = re.search(r"`(\w+\.py)` in `([\w/]+)/`", text).groups()
    file = checkout / folder / name
    assert not file.exists()
    line, registry = re.search(r"`(\"[\w-]+\": [^`]+,)`[^.]*?`(\w[\w/]+\.py)`", text).groups()
    code = next(block for block in blocks if block.startswith('"""'))
    file.write_text(code, encoding="utf-8")
    sources = {f"{folder.replace('/', '.')}.{file.stem}": code}
    if configs := KEYS_APART.get(page):
        keys = checkout / "micrec" / f"{configs}.py"
        keys.write_text(keys.read_text(encoding="utf-8") + "\n\n" + blocks[0], encoding="utf-8")
        sources[f"micrec.{configs}"] = blocks[0]
    used = set(re.findall(r"\b[A-Za-z_]\w*\b", re.sub(r'"[^"]*"', "", line)))
    target = checkout / registry
    for module, source in sources.items():
        if names := used & defined(source):
            add_import(target, module, names)
    before, after = re.split(r"(?<=Registry\()(?=[^()]*\{)", target.read_text(encoding="utf-8"), maxsplit=1)
    target.write_text(before + after.replace("{\n", "{\n        " + line + "\n", 1), encoding="utf-8")
    shown = f"from {next(iter(sources))} import *\n" if page == "scenario-kind" else "from pathlib import Path\n"
    return shown + blocks[-1]


def test_each_recipe_ends_where_it_says(tmp_path):
    checkout = tmp_path / "checkout"
    for package in ("micrec", "simulator", "abtest", "scenarios"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    examples = [follow(page, checkout) for page in PAGES]
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)],
        cwd=tmp_path / "work",
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"rising +┆ \d+", done.stdout)
    assert re.search(r"treatment +┆ \d+", done.stdout)  # items shown under the ranking model
    assert re.search(r"\[-\d\.\d+, -\d\.\d+\]", done.stdout)  # of the item loss, epoch by epoch
    assert "busiest hour" in done.stdout
