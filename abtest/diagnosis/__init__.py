"""What each loss does, beside what it does to the hits: the answers of an offline comparison, and maps of the items."""

from abtest.diagnosis.files import write_diagnosis

__all__ = ["write_diagnosis"]
