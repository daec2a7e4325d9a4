"""What each loss does, beside what it does to the hits: the answers of an offline comparison, and maps of the items."""
