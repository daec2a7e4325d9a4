"""Losses and validation metrics of a training as TensorBoard event files or in MLflow, while it runs."""

from micrec.tracking.tracking import Tracking

__all__ = ["Tracking"]
