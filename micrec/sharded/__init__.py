"""One training over several processes and machines: tables divided by row, everything else by the rows of a batch."""
