"""The packages that MicRec depends on, by the name they are imported by, and what to do where one is missing."""

import shlex
from importlib import metadata

DISTRIBUTIONS = {  # name in an import statement: name on the package index
    "faiss": "faiss-cpu",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "polars": "polars",
    "pydantic": "pydantic",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "simpy": "simpy",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "torch": "torch",
    "typer": "typer",
    "yaml": "pyyaml",
}


def missing_package(fault: ModuleNotFoundError) -> str | None:
    """One line that names the package and the command which installs it.

    Returns:
        The line; None where the missing module is not one of a package that MicRec depends on, so that the error is a
        bug.
    """
    name = (fault.name or "").partition(".")[0]
    distribution = DISTRIBUTIONS.get(name)
    if distribution is None:
        return None
    return (
        f"this command needs the package {distribution}, which is not installed: "
        f"pip install {shlex.quote(_requirement(distribution))}, or pip install micrec for what all commands need."
    )


def _requirement(distribution: str) -> str:
    """The package with the versions that the installed MicRec asks for."""
    try:
        required = metadata.requires("micrec") or []
    except metadata.PackageNotFoundError:  # a checkout that was not installed
        return distribution
    found = (line for line in required if "extra ==" not in line and _name(line) == distribution)
    return next(found, distribution)


def _name(requirement: str) -> str:
    length = next((at for at, char in enumerate(requirement) if not (char.isalnum() or char in "-_.")), None)
    return requirement[:length].lower().replace("_", "-")
