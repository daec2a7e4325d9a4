"""Offline experiments: models trained on datasets with the same seeds, compared on their test periods."""
