"""The tables of the paper on any dataset: rows of models, the orderings they show, and whether these hold."""
