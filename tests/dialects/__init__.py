"""Every dialect of the RIS that site.yaml can name, between the engine and the simulated RIS."""
