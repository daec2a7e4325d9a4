"""What is wrong with an offline scenario, all of it at once, under the keys the user wrote."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from abtest.arms import ConfigLayer, layer_faults, mapping
from abtest.offline.offline_scenario import OfflineScenario
from abtest.offline.statistics_scenario import StatisticsScenario
from abtest.offline.table_scenario import EVERY_BASELINE, TableScenario
from abtest.world_fields import config_field_faults, together
from micrec.baselines import BASELINES
from micrec.data.convert import READERS
from micrec.item_loss_kinds import ITEM_LOSSES
from micrec.settings import build_config, merge


def config_faults(data: Mapping[str, Any]) -> list[str]:
    """Faults of ``base``, of each dataset's keys and of each row's config."""
    rows = {name: _row_keys(mapping(row)) for name, row in mapping(data.get("rows")).items()}
    layers = [ConfigLayer(f"rows.{name}.config", row) for name, row in rows.items()]
    for name, keys in mapping(data.get("datasets")).items():
        layers.append(ConfigLayer(f"datasets.{name}.base", mapping(mapping(keys).get("base")), whole=True))
        layers += [
            ConfigLayer(f"datasets.{name}.rows.{row}", merge(rows.get(row, {}), mapping(own)))
            for row, own in mapping(mapping(keys).get("rows")).items()
        ]
    return layer_faults(data, layers, one="row")


def scenario_faults(scenario: TableScenario) -> list[str]:
    """What the keys cannot say one by one: rows, datasets, metrics that are named but not there."""
    faults = []
    for where, row in _named_rows(scenario):
        if row not in scenario.rows:
            faults.append(f"{where}: no row {row}: {nearest(row, scenario.rows)}")
    faults += _paper_faults(scenario)
    faults += _ordering_faults(scenario)
    faults += same_folder_faults("datasets", scenario.datasets)
    faults += _log_faults(scenario)
    faults += same_folder_faults("rows", scenario.rows)
    labels = [row.label for row in scenario.rows.values()]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        faults.append(f"rows: label {', '.join(twice)} names several rows: tables could not tell them apart")
    faults += _comparison_faults(scenario)
    widths = {len(group) for group in scenario.figure.groups.values()}
    if len(widths) > 1:
        faults.append(f"figure.groups: groups must have as many rows each, got {', '.join(map(str, sorted(widths)))}")
    elif scenario.figure.bars and widths and len(scenario.figure.bars) not in widths:
        faults.append(f"figure.bars: {len(scenario.figure.bars)} names for {widths.pop()} bars: name each once")
    return faults + _metric_faults(scenario) + _epochs_faults(scenario) + ([] if faults else _world_faults(scenario))


def _comparison_faults(scenario: TableScenario) -> Iterator[str]:
    known = [*scenario.rows, *scenario.baselines, EVERY_BASELINE]
    for place, one in enumerate(scenario.comparisons):
        for other in one.against or ():
            if other == one.row:
                yield f"comparisons.{place}.against: {other} is compared with itself: name another row"
            elif other in BASELINES and other not in known:
                yield f"comparisons.{place}.against: {other} is not among baselines: add it there, or name a row"
            elif other not in known:
                yield f"comparisons.{place}.against: no row or baseline {other}: {nearest(other, known)}"


def _world_faults(scenario: TableScenario) -> list[str]:
    chosen = [name for name, _ in scenario.chosen()]
    return [f"datasets.{name}: {fault}" for name in chosen for fault in field_faults(scenario, name)]


def field_faults(scenario: TableScenario, dataset: str) -> list[str]:
    """Fields that the rows' models name and a generated world does not have."""
    keys = dict(scenario.chosen())[dataset]
    if not keys.is_world:
        return []
    configs = {row: scenario.config(keys, row, scenario.first_seed) for row in scenario.rows}
    faults = {row: config_field_faults(one, keys.world_config()) for row, one in configs.items()}
    return together(scenario.written("rows"), faults)


def two_arm_faults(scenario: OfflineScenario) -> list[str]:
    """What the keys of a two-arm test cannot say one by one."""
    if not scenario.metrics.primary:
        return ["metrics.primary: must name at least one metric"]
    table = scenario.table()
    return [*_metric_faults(table), *field_faults(table, table.chosen()[0].name)]


def dataset_faults(scenario: StatisticsScenario) -> list[str]:
    """What the keys of datasets that are only counted cannot say one by one."""
    faults = same_folder_faults("datasets", scenario.datasets)
    for name, keys in scenario.datasets.items():
        if keys.base or keys.rows:
            faults.append(f"datasets.{name}: base and rows are of models, and nothing is trained here: remove them")
    return [*faults, *_paper_faults(scenario)]


def _paper_faults(scenario: TableScenario | StatisticsScenario) -> list[str]:
    """Datasets that are shown beside one which the paper does not have."""
    return [
        f"datasets.{name}.paper: the paper has no {keys.paper}: {nearest(keys.paper, scenario.paper)}"
        for name, keys in scenario.datasets.items()
        if keys.paper is not None and keys.paper not in scenario.paper
    ]


def _log_faults(scenario: TableScenario) -> Iterator[str]:
    """Raw logs that nothing can read, or that are given beside a folder; and tables of which no dataset is there."""
    for name, keys in scenario.datasets.items():
        if keys.log is not None and keys.data is not None:
            yield f"datasets.{name}: has data and log: a dataset is a folder or a raw log, name one"
        if keys.log is not None and keys.log.reader not in ("auto", *READERS):
            yield f"datasets.{name}.log.reader: no reader {keys.log.reader}: {nearest(keys.log.reader, READERS)}"
    if scenario.data is None and not scenario.chosen():
        yield f"datasets: none is there: {'; '.join(scenario.missing_logs())}: put one there, or name another"


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant, or all there is."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"choose from {', '.join(names) or 'none'}"


def same_folder_faults(what: str, names: Iterable[str]) -> list[str]:
    """Names that some file systems cannot tell apart."""
    seen: dict[str, str] = {}
    faults = []
    for name in names:
        if name.lower() in seen:
            faults.append(f"{what}.{name}: differs from {seen[name.lower()]} in capitals only: rename one of the two")
        seen[name.lower()] = name
    return faults


def metric_faults(where: str, metrics: Sequence[str], cutoffs: Sequence[int]) -> Iterator[str]:
    """Metrics that are misspelt, or whose cutoff is not evaluated."""
    for metric in metrics:
        name, at, cutoff = metric.partition("@")
        if not name or (at and not cutoff.isdigit()):
            yield f"{where}: {metric} is not a metric: write it as hit@50"
        elif at and int(cutoff) not in cutoffs:
            known = ", ".join(map(str, cutoffs))
            yield f"{where}: {metric} needs {cutoff} among base.evaluation.cutoffs ({known})"


def _metric_faults(scenario: TableScenario) -> list[str]:
    """Of metrics that are named anywhere."""
    cutoffs = build_config(scenario.preset, scenario.base).evaluation.cutoffs
    lists = {**scenario.named_metrics(), "figure.metrics": scenario.figure.metrics}
    faults = [fault for where, metrics in lists.items() for fault in metric_faults(where, metrics, cutoffs)]
    shown = (*scenario.metrics, *scenario.details)
    faults += [
        f"figure.metrics: {metric} is in no table: add it to metrics or details"
        for metric in scenario.figure.metrics
        if metric not in shown
    ]
    return faults


def _epochs_faults(scenario: TableScenario) -> list[str]:
    """Rows whose first seed would learn from other clicks than the rest."""
    if scenario.choose_epochs == "each_seed":
        return []
    return [
        f"choose_epochs: first_seed trains anew on all clicks before the test, and {name}, row {row} has train.refit "
        "false: leave train.refit out, or use each_seed"
        for name, keys in scenario.datasets.items()
        for row in scenario.rows
        if not scenario.config(keys, row, scenario.first_seed).train.refit
    ][:1]


def _ordering_faults(scenario: TableScenario) -> Iterator[str]:
    for place, one in enumerate(scenario.orderings):
        at = f"orderings.{place}"
        if bool(one.rising) == bool(one.above or one.below):
            yield f"{at}: must say either rising, or above and below"
        elif (one.rising and len(one.rising) < 2) or (not one.rising and not (one.above and one.below)):
            yield f"{at}: orders fewer than two rows: name a second"
        elif any(lower == higher for lower, higher in one.steps()):
            yield f"{at}: sets a row above itself: name another"


def _named_rows(scenario: TableScenario) -> Iterator[tuple[str, str]]:
    """Every mention of a row, and where it stands."""
    if scenario.reference is not None:
        yield "reference", scenario.reference
    for name, row in scenario.rows.items():
        if row.reference is not None:
            yield f"rows.{name}.reference", row.reference
    for place, one in enumerate(scenario.comparisons):
        yield f"comparisons.{place}.row", one.row
    for place, ordering in enumerate(scenario.orderings):
        yield from ((f"orderings.{place}.rising", row) for row in ordering.rising)
        yield from ((f"orderings.{place}.below", row) for row in ordering.below)
        if ordering.above is not None:
            yield f"orderings.{place}.above", ordering.above
    for name, keys in scenario.datasets.items():
        yield from ((f"datasets.{name}.rows", row) for row in keys.rows)
    for name, dataset in scenario.paper.items():
        yield from ((f"paper.{name}.rows", row) for row in dataset.rows)
    for name, group in scenario.figure.groups.items():
        yield from ((f"figure.groups.{name}", row) for row in group)


def _row_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """As ``RowConfig.keys``, of what may be at fault."""
    losses = row.get("losses")
    off = [loss for loss in ITEM_LOSSES if loss not in losses] if isinstance(losses, list | tuple) else []
    return merge({"contrast": {loss: {"weight": 0} for loss in off}} if off else {}, mapping(row.get("config")))
