"""What a run looks at before its first training or simulated second, so that a scenario called valid does run."""

from abtest.offline.dataset_run import default_read
from abtest.offline.offline_scenario import OfflineScenario
from abtest.offline.table_run import read_given, row_checks
from abtest.offline.table_scenario import TableScenario
from abtest.offline.two_arms import check_arms
from abtest.online.online_scenario import OnlineScenario
from abtest.scenario_files import Scenario


def check_datasets(scenario: Scenario) -> None:
    """Read the dataset folders that a scenario names, and see that its models can be trained on them.

    Generated worlds need no look: what models and pipelines name of them is checked with the scenario's keys.

    Raises:
        MicrecError: If a folder is missing or at fault, or a model cannot be trained on it.
    """
    if isinstance(scenario, OnlineScenario):
        return
    read = default_read()
    if isinstance(scenario, OfflineScenario):
        if scenario.data is not None:
            check_arms(scenario, read(scenario.data))
    elif isinstance(scenario, TableScenario):
        read_given(scenario.chosen(), read, row_checks(scenario))
    else:
        read_given(scenario.chosen(), read, lambda name, dataset: None)
