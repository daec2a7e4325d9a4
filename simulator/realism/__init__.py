"""How far a generated log is from a real one: fixed statistics, a classifier, and the order of recommenders."""
