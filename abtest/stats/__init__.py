"""Statistics of experiments: moments per cell in, estimates with intervals and tails out."""
