"""The structure of the code in numbers: parts of each package, imports between them, import cycles, lengths.

    python tests/structure.py            # of this checkout
    python tests/structure.py --root ../other

A part is a folder of modules or a single module at the top of a package. One part imports another if any of its modules
imports one of the other's modules, also inside functions.
"""

import argparse
import ast
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("micrec", "simulator", "abtest")


def modules(root: Path) -> dict[str, Path]:
    """Every module of the three packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path], *, at_start: bool = False) -> set[str]:
    """The modules that one imports; ``at_start`` leaves out what functions and type checkers import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                target = whole if whole in known else node.module
                found |= {target} & known.keys() - {name}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known.keys() - {name}
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules that import each other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        path.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in path:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            circle = [path.pop()]
            while circle[-1] != node:
                circle.append(path.pop())
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def part(name: str) -> str:
    """The folder a module lies in, below its package; a module at the top of a package is a part of its own."""
    return ".".join(name.split(".")[:2])


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length in lines, without the docstring, of every function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - (text.count("\n") + 1 if text else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="Checkout to look at.")
    known = modules(parser.parse_args().root)
    graph = {name: imports(name, path, known) for name, path in known.items()}
    for package in PACKAGES:
        inside = [name for name in known if name.startswith(f"{package}.")]
        parts = {part(name) for name in inside}
        folders = {part(name) for name in inside if name.count(".") > 1}
        links = {
            (part(name), part(other))
            for name in inside
            for other in graph[name]
            if other.startswith(f"{package}.") and part(name) != part(other)
        }
        print(
            f"{package}: {len(parts)} parts ({len(folders)} folders, {len(parts) - len(folders)} single modules), "
            f"{len(links)} imports between them"
        )
    for circle in circles(graph):
        print(f"import cycle: {', '.join(circle)}")
    files = [len(path.read_text(encoding="utf-8").splitlines()) for path in known.values()]
    print(f"{_lengths(files)} in {len(files):,} modules")
    lengths = [length for path in known.values() for _, length in functions(path)]
    print(f"{_lengths(lengths)} in {len(lengths):,} functions")


def _lengths(lines: Sequence[int]) -> str:
    ordered = sorted(lines)
    middle, high = statistics.median(ordered), ordered[int(0.95 * len(ordered))]
    return f"lines: median {middle:.0f}, 19 of 20 at most {high}, longest {ordered[-1]}"


if __name__ == "__main__":
    main()
