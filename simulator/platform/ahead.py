"""Models that a warm-up trains on its first morning beside its own, trained before by a process without work."""

from pathlib import Path

from micrec.progress import Progress
from simulator.platform.archive import Archive, observed
from simulator.platform.arms import arm_pipelines
from simulator.platform.engine import WARM_UP
from simulator.platform.model_registry import ModelRegistry, TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.platform.serving_plan import make_plan, shadows
from simulator.platform.shared_models import SharedModels


def train_ahead(
    keys: PlatformConfig,
    setting: PlatformInputs,
    makers: TrainerFactories,
    folder: Path,
    shared: Path,
    progress: Progress,
) -> None:
    """Train the arms' models that production lacks on the history, the last first, and leave them in ``shared``.

    The warm-up begins with the first and copies what it finds there. Either waits for a model that the other is about
    to train, so that none is trained twice.

    Args:
        keys: The platform.
        setting: The tables it may see, and its history.
        makers: Trainers by kind.
        folder: For what is under way; the caller removes it.
        shared: Folder in which the warm-up looks for them.
        progress: Receives the number of models.
    """
    day = setting.first_day
    aside = shadows(arm_pipelines(keys), make_plan({WARM_UP: keys.pipeline}, diverted=False))
    log = observed(
        Archive(folder, None, day), setting, day, arm=None, log_days=keys.log_days, shared_until=day + keys.warmup_days
    )
    (folder / "models").mkdir(parents=True, exist_ok=True)
    registry = ModelRegistry(
        makers,
        seed=keys.seed,
        folder_of=lambda _: folder,
        experiment_day=day + keys.warmup_days,
        progress=progress,
        shared=SharedModels(shared),
        first_morning=day,
    )
    progress.start("models ahead of the warm-up", len(aside), "models")
    registry.train_ahead(day, aside, log)
    progress.finish()
