"""The item-contrastive losses as modules, one a file; ``micrec.item_loss_kinds`` holds them by name."""
