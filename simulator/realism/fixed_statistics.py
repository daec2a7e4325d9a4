"""The fixed statistics by which two logs are compared, in the order of the report."""

from micrec.errors import MicrecError
from simulator.realism.catalogue_statistics import CATALOGUE
from simulator.realism.response_statistics import RESPONSES
from simulator.realism.statistics import Statistic
from simulator.realism.visit_statistics import VISITS


def statistics(without: tuple[str, ...] = ()) -> list[Statistic]:
    """All fixed statistics but those of the named groups or names.

    Raises:
        MicrecError: If a name is neither, or nothing is left.
    """
    every = [*VISITS, *CATALOGUE, *RESPONSES]
    known = {s.group for s in every} | {s.name for s in every}
    if unknown := [name for name in without if name not in known]:
        groups = ", ".join(dict.fromkeys(s.group for s in every))
        names = ", ".join(s.name for s in every)
        raise MicrecError(
            f"--without {','.join(unknown)}: no such statistic: choose from the groups {groups}, or from {names}."
        )
    left = [s for s in every if s.group not in without and s.name not in without]
    if not left:
        raise MicrecError("--without: leaves no statistic to compare: name fewer.")
    return left
