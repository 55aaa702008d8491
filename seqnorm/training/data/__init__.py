"""The data of the tasks, as LightningDataModules."""
