"""The best possible results on a generated world, beside its models; see :mod:`simulator.ceiling.ceilings`."""

from micrec.baselines import BASELINES, BaselineModel

USERS_KNOWN, ITEMS_KNOWN, STRUCTURE_KNOWN = (
    BaselineModel(
        label,
        f"simulator.ceiling.ceilings:{name}",
        missing="simulator.ceiling.ceilings:missing_ground_truth",
        is_ceiling=True,
    )
    for name, label in (
        ("users_known", "users known"),
        ("items_known", "items known"),
        ("structure_known", "structure known"),
    )
)


def register_ceilings() -> None:
    """Name the ceilings among the baselines, where the installed package has not done so by its entry points."""
    BASELINES.register("users_known", USERS_KNOWN)
    BASELINES.register("items_known", ITEMS_KNOWN)
    BASELINES.register("structure_known", STRUCTURE_KNOWN)
