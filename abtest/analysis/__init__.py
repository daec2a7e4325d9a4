"""Analysis of an experiment's log: read and checked, judged only where it is valid, and reported in plain words."""
