"""One check that several suites make: same seed, same parameters, and a run that goes on from a snapshot ends alike."""

import torch

from micrec.progress import NoProgress
from micrec.training import Trainer


def check_same_seed_and_resumed(whole: Trainer, again: Trainer, resumed: Trainer) -> None:
    """Two epochs in three ways, by trainers that were made alike; all parameters must agree to the bit."""
    for _ in range(2):
        whole.epoch(NoProgress())
    again.epoch(NoProgress())
    resumed.restore(*again.snapshot(), epoch=1)
    again.epoch(NoProgress())
    resumed.epoch(NoProgress())
    for key, tensor in whole.parameters().items():
        assert torch.equal(tensor, again.parameters()[key]), key
        assert torch.equal(tensor, resumed.parameters()[key]), key
