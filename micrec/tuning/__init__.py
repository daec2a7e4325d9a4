"""Search of settings on the validation clicks of one log: the space, the study with its journal, and what came out."""
