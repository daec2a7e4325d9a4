"""The scenarios, worlds and metric files that come with the package, found by name from any folder."""

import difflib
from pathlib import Path

from micrec.errors import MicrecError

SUFFIX = ".yaml"
WORLDS = "worlds"


def shipped_folder() -> Path:
    """Where the files lie: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "scenarios"
    return installed if installed.is_dir() else package.parent / "scenarios"


def shipped_files() -> dict[str, Path]:
    """Every shipped file by name, such as ``quickstart`` and ``worlds/tiny``, in order of the names."""
    folder = shipped_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob(f"*{SUFFIX}"))}


def find_file(given: Path | str, *, below: str = "") -> Path:
    """A file of the user's, or the shipped one of that name; a file of the user's always comes first.

    Args:
        given: A path, or a name without a suffix.
        below: Folder of the shipped files in which a bare name is looked for first, such as ``worlds``.

    Returns:
        The path; one with a suffix that is not there is returned as it is, for its reader to refuse.

    Raises:
        MicrecError: If there is neither a file nor a shipped one of that name, or a missing path is that of a shipped
            file; the error names near ones.
    """
    path = Path(given)
    if _is_there(path):
        return path
    shipped = shipped_files()
    name = path.as_posix().removeprefix("scenarios/").removesuffix(SUFFIX)
    known = next((one for one in (f"{below}/{name}", name) if one in shipped), None)
    if path.suffix != SUFFIX and known is not None:
        return shipped[known]
    if known is not None:
        raise MicrecError(f"{path}: no such file here; the shipped one of that name is called {_short(known, below)}.")
    if path.suffix:
        return path
    names = {_short(one, below): one for one in shipped}
    near = difflib.get_close_matches(name, names, n=3) if len(name) < 200 else []
    cure = f"did you mean {' or '.join(near)}?" if near else "micrec scenario list names what is shipped."
    raise MicrecError(f"{str(path)[:200]}: no such file, and nothing shipped has that name: {cure}")


def _short(name: str, below: str) -> str:
    return name.removeprefix(f"{below}/") if below else name


def _is_there(path: Path) -> bool:
    """Whether something lies there that is not merely a folder of the same name."""
    try:
        return path.exists() and not (path.is_dir() and not path.suffix)
    except (OSError, ValueError):  # a path that no system takes
        return False
