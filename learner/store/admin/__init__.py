"""What an operator does with a store: list, check, repair, prune, export, back up, label."""
