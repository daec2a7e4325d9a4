"""Online experiments: two arms on one simulated platform."""
