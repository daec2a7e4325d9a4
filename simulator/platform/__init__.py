"""A platform on a simulated clock: channels, merging, ranking, queues, faults, logs and daily training."""
