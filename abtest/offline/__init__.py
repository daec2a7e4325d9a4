"""Offline experiments: models trained on datasets with the same seeds, compared on their test periods."""

from simulator.ceiling import register_ceilings

register_ceilings()  # scenarios may name them among their baselines
