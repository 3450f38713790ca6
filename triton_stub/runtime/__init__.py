"""One model instance: its import scope, its thread, and the contract around its methods."""
