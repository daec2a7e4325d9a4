"""The shipped scenarios lie at the top of the project and are installed as data of the package ``micrec``.

Everything else of the build is said in pyproject.toml.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["micrec*", "simulator*", "abtest*"]),
        "micrec.scenarios",
        "micrec.scenarios.worlds",
    ],
    package_dir={"micrec.scenarios": "scenarios"},
)
