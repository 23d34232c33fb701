"""The one training loop, its state, guards and launch; it sees tasks only as protocols."""
