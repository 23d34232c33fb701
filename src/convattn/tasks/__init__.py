"""Tasks: a model with its data, loss and metrics. There is no loop here."""
