"""The tasks as LightningModules, with their metrics and their optimizer."""
