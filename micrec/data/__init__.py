"""Datasets: the folder on disk, its readers, splits, histories, sessions and semantic neighbours."""
