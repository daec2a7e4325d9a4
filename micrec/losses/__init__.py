"""The matching loss and the three item-contrastive losses, as pure functions."""
