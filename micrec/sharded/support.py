"""What several processes cannot compute as one would: refused before anything is trained."""

from collections.abc import Iterator

from torch import nn

from micrec.config import Config
from micrec.errors import MicrecError
from micrec.models.layers import SeededDropout

_CURE = "or train in one process"


def check_supported(config: Config, *, warm_start: bool) -> None:
    """Refuse what would not give the losses and weights of one process.

    Raises:
        MicrecError: Naming every such key, its value, the reason and the cure.
    """
    if faults := [*_unsupported(config, warm_start)]:
        raise MicrecError.of("several processes (torchrun)", faults)


def check_modules(model: nn.Module) -> None:
    """The same for a tower whose layers draw, or read the batch as a whole, whatever its keys say.

    Raises:
        MicrecError: Naming the layers.
    """
    faults = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            faults.append(f"{name}: normalises by the whole batch, of which a process sees its part: leave it out")
        if isinstance(module, nn.Dropout) or (isinstance(module, SeededDropout) and module.ratio > 0):
            faults.append(f"{name}: draws its dropout for its own rows alone: set the dropout to 0")
    if faults:
        raise MicrecError.of("several processes (torchrun)", [f"{fault}, {_CURE}" for fault in faults])


def _unsupported(config: Config, warm_start: bool) -> Iterator[str]:
    model, train = config.model, config.train
    for key, share in (("dropout", model.dropout), ("id_dropout", model.id_dropout)):
        if share > 0:
            yield f"model.{key}: must be 0, got {share}: each process would draw for its own rows alone; set 0, {_CURE}"
    if model.history_dropout > 0 and model.tower.load().counts_clicks and config.softmax.negatives != "full":
        yield (
            f"model.history_dropout: must be 0 for {model.name} with softmax.negatives {config.softmax.negatives}, got "
            f"{model.history_dropout}: which click a draw hides depends on the items of the whole batch; set 0, take "
            f"negatives full, {_CURE}"
        )
    if config.softmax.denominator == "negatives_only":
        yield (
            "softmax.denominator: must be with_positive, got negatives_only: how many rows have negatives, which its "
            f"mean divides by, no process knows; set with_positive, {_CURE}"
        )
    for name in config.contrast.on:
        if getattr(config.contrast.losses[name], "form", "contrast") == "momentum":
            yield (
                f"contrast.{name}.form: must not be momentum: its copy of the model would have to be divided as well; "
                f"choose another form, {_CURE}"
            )
    if train.compile:
        yield f"train.compile: must be false, got true: it was not tried with divided tables; set false, {_CURE}"
    if train.watch_gradients:
        yield (
            f"train.watch_gradients: must be 0, got {train.watch_gradients}: gradients of single losses are not "
            f"gathered; set 0, {_CURE}"
        )
    if train.device.startswith("cuda:"):
        yield f"train.device: must be auto, cpu or cuda, got {train.device}: torchrun gives each process a device"
    if warm_start:
        yield f"--from: an earlier model's rows are not given out to several processes; leave it out, {_CURE}"
