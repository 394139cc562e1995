"""Networks: MLPs and ensembles, the normaliser of states, weights to flat arrays and back."""
