"""What a team's past tests say of the lifts to come: a small file that ``micrec history`` writes and others read.

::

    schema: micrec-lift-prior/1
    metrics:
      ACC: {mean: 0.004, sd: 0.012, tests: 14, mean_se: 0.003}

True relative lifts of a metric are taken as normal with this mean and standard deviation, as shares of the control
(0.004 = +0.4 %) and not as the tests measured them: the noise of each test is taken out. ``tests`` says from how many
comparisons they come, ``mean_se`` how well the mean is known.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from abtest.run_folder import write_text
from micrec.settings import load_yaml, validate

PRIOR_SCHEMA = "micrec-lift-prior/1"


class LiftPrior(BaseModel):
    """Normal distribution of a metric's true relative lifts over past tests."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mean: float = Field(..., ge=-1, le=10, description="Mean true lift, as a share: 0.004 is +0.4 %.")
    sd: float = Field(..., ge=0, le=10, description="Standard deviation of the true lifts, as a share.")
    tests: int = Field(0, ge=0, description="Comparisons that it comes from.")
    mean_se: float | None = Field(None, ge=0, description="Standard error of the mean.")


class LiftPriorFile(BaseModel):
    """Priors by metric."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    format: str = Field(PRIOR_SCHEMA, alias="schema", pattern=f"^{PRIOR_SCHEMA}$", description="Version of the file.")
    metrics: dict[str, LiftPrior] = Field(..., min_length=1, description="Prior of each metric's lift, by name.")


def load_prior(path: Path) -> Mapping[str, LiftPrior]:
    """The priors of a YAML or JSON file, by metric.

    Raises:
        MicrecError: If the file cannot be read or a key is not valid; all errors at once.
    """
    return validate(LiftPriorFile, load_yaml(path), where=str(path)).metrics


def write_prior(path: Path, priors: Mapping[str, LiftPrior]) -> None:
    """Write the file that ``load_prior`` reads."""
    metrics = {name: prior.model_dump(exclude_none=True) for name, prior in priors.items()}
    text = "# True relative lifts over past tests: normal with this mean and sd, as shares (micrec history).\n"
    write_text(path, text + yaml.safe_dump({"schema": PRIOR_SCHEMA, "metrics": metrics}, sort_keys=False))
