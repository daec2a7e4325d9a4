"""The whole numbers of configs and scenarios, each with the largest value that a machine could still work with.

A bound is far above any sensible value: it is there so that a slip of the keyboard ends in an error that names the
key, instead of hours of silence or a machine without memory.
"""

from typing import Annotated

from pydantic import Field

Seed = Annotated[int, Field(ge=0, lt=2**62)]
"""Seed of random streams; some runs add small numbers to it, so it stays clear of 2^63."""

MOST_ROWS = 2_000_000_000
Rows = Annotated[int, Field(ge=1, le=MOST_ROWS)]
"""Users, items or clicks: ids fit 32 bits."""

RowsOrNone = Annotated[int, Field(ge=0, le=2_000_000_000)]
"""As ``Rows``, where 0 switches something off."""

Length = Annotated[int, Field(ge=1, le=1_000_000)]
"""Items of a list or a batch that is held in memory at once."""

Draws = Annotated[int, Field(ge=1, le=100_000)]
"""Negatives, positives or partners of one row."""

Width = Annotated[int, Field(ge=1, le=16_384)]
"""Numbers of one embedding or hidden layer."""

Depth = Annotated[int, Field(ge=1, le=128)]
"""Layers, heads, interests or rounds."""

Repeats = Annotated[int, Field(ge=1, le=10_000)]
"""Trainings, seeds or replications."""

RepeatsOrNone = Annotated[int, Field(ge=0, le=10_000)]
"""As ``Repeats``, where 0 switches something off."""

Splits = Annotated[int, Field(ge=1, le=1_000_000)]
"""Random assignments of users to arms."""

Days = Annotated[int, Field(ge=1, le=3_650)]
DaysOrNone = Annotated[int, Field(ge=0, le=3_650)]

Seconds = Annotated[int, Field(ge=1, lt=2**62)]
