"""What a log holds for each loss before anything is trained: which signals of items predict later clicks."""
