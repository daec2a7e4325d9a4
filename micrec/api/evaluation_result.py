"""All offline metrics of a model beside those of the baselines, as one object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from micrec.api.arguments import Part, Settings
from micrec.config import EvalConfig
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.notebook import Displayed, ResultTable
from micrec.settings import merge, nested, validate

if TYPE_CHECKING:
    from micrec.evaluation import EvalResult
    from micrec.fitting import Fitted


@dataclass(frozen=True, repr=False)
class Evaluation(Displayed):
    """All offline metrics of a model on one part of the clicks, with the baselines beside.

    Attributes:
        dataset: Name of the dataset.
        part: ``test`` or ``valid``.
        switches: Preset and keys that the model was trained with, in one line.
        models: Results by name, the trained model first, the baselines after it.
    """

    dataset: str
    part: Part
    switches: str
    models: "Mapping[str, EvalResult]" = field(repr=False)

    @property
    def model(self) -> str:
        """Name of the trained model."""
        return next(iter(self.models))

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the trained model by its full name, such as ``hit@50``."""
        return dict(self.models[self.model].metrics)

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Every metric of each baseline, by its name."""
        return {name: dict(found.metrics) for name, found in self.models.items() if name != self.model}

    def to_frame(self) -> pl.DataFrame:
        """One row per model, slice and metric.

        Returns:
            ``model``, ``slice`` (``all`` for everybody), ``metric``, ``value``, and ``users`` and ``lines``: how many
            users and test clicks the value is made of.
        """
        rows = [
            (name, part, metric, value, users, lines)
            for name, found in self.models.items()
            for part, users, lines, metrics in (
                ("all", found.users, found.lines, found.metrics),
                *((key, one.users, one.lines, one.metrics) for key, one in found.slices.items()),
            )
            for metric, value in metrics.items()
        ]
        schema = {"model": pl.String, "slice": pl.String, "metric": pl.String, "value": pl.Float64}
        return pl.DataFrame(rows, schema={**schema, "users": pl.Int64, "lines": pl.Int64}, orient="row")

    @property
    def verdict(self) -> str:
        """Whether the model's HIT is above that of the baselines over the test users, as a sentence."""
        from micrec.evaluation.standing import standings, verdict

        return verdict(standings(self.models), self.models[self.model])

    def to_dict(self) -> dict[str, Any]:
        """What ``micrec evaluate --json`` prints."""
        from micrec.comparison import results_as_dict

        head = {"dataset": self.dataset, "part": self.part, "switches": self.switches}
        return {**head, **results_as_dict(dict(self.models), self.part)}

    def _lines(self) -> list[str]:
        from micrec.evaluation.notes import judged_lines

        told = self.to_dict()
        return [
            f"{self.model} on {self.dataset}, {self.part} part",
            f"Verdict: {self.verdict}.",
            *judged_lines(self.models[self.model].reach, self.part),
            *(f"warning: {text}" for text in told["warnings"]),
            *(f"note: {text}" for text in told["notes"]),
            self.switches,
        ]

    def _tables(self) -> list[ResultTable]:
        from micrec.comparison import other_metrics

        found = self.models[self.model]
        ceilings = {"random lists": found.reach.chance, "highest possible": found.reach.ceiling}
        others = [metric for metrics in other_metrics(dict(self.models)).values() for metric in metrics]
        rows = [
            (name, *(f"{one.metrics[name]:.4f}" if name in one.metrics else "" for one in self.models.values()))
            for name in others
        ]
        return [
            self._by_cutoff("HIT@N", "hit", ceilings),
            self._by_cutoff("coverage@N", "coverage", {}),
            ResultTable("Every other metric", ("metric", *self.models), rows, folded=True),
        ]

    def _by_cutoff(self, title: str, kind: str, more: Mapping[str, Mapping[int, float]]) -> ResultTable:
        from micrec.comparison import told_s

        cutoffs = self.models[self.model].cutoffs
        values = {name: {n: one.metrics[f"{kind}@{n}"] for n in cutoffs} for name, one in self.models.items()}
        rows = [(name, *(f"{of[n]:.4f}" for n in cutoffs)) for name, of in {**values, **more}.items()]
        if kind != "hit":
            return ResultTable("", (title, *map(str, cutoffs)), rows)
        seconds = {name: told_s(one.seconds) for name, one in self.models.items()}
        timed = [(*row, seconds.get(row[0], "")) for row in rows]
        return ResultTable("", (title, *map(str, cutoffs), "seconds"), timed)


def evaluate_fitted(
    fitted: "Fitted", dataset: Dataset, part: Part, settings: Settings | EvalConfig | None = None
) -> Evaluation:
    """All metrics of fitted towers on a part of the dataset they belong to, with the baselines beside.

    Args:
        fitted: The towers and their config.
        dataset: What they were trained on.
        part: ``test`` or ``valid``.
        settings: Keys laid over the evaluation of the config, or a whole one.

    Raises:
        MicrecError: If the part is neither, a key is invalid, or the model was trained on clicks of the part.
    """
    from micrec.comparison import compare_with_baselines, switches

    if part not in ("test", "valid"):
        raise MicrecError(f"part: must be one of test, valid, got {part}.")
    if not isinstance(settings, EvalConfig):
        given = merge(fitted.config.evaluation.model_dump(), nested(settings or {}))
        settings = validate(EvalConfig, given, where="settings")
    fitted = fitted.with_evaluation(settings)
    return Evaluation(dataset.name, part, switches(fitted.config), compare_with_baselines(fitted, dataset, part))
