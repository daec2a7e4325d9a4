"""The kinds of scenario by the name that stands under ``kind`` in their files.

To add one, write its ``ScenarioKind`` in a file of its own and name it here. Another package calls
``SCENARIO_KINDS.register`` or declares an entry point of the group ``micrec.scenario_kinds``.
"""

from abtest.offline.offline_kinds import EVIDENCE_MAP, GAIN_MAP, GRID, STATISTICS, TABLE, TWO_ARMS
from abtest.online.online_kinds import AA, DOSE_RESPONSE, FAULTS, INTERFERENCE, MISSPECIFIED, ONLINE_AB
from abtest.scenario_kind import ScenarioKind
from micrec.registry import Registry

SCENARIO_KINDS: Registry[ScenarioKind] = Registry(
    "kind of scenario",
    "scenario_kinds",
    {
        "offline_ab": TWO_ARMS,
        "online_ab": ONLINE_AB,
        "aa": AA,
        "dose_response": DOSE_RESPONSE,
        "interference": INTERFERENCE,
        "faults": FAULTS,
        "misspecified": MISSPECIFIED,
        "table": TABLE,
        "grid": GRID,
        "gain_map": GAIN_MAP,
        "evidence_map": EVIDENCE_MAP,
        "statistics": STATISTICS,
    },
)
