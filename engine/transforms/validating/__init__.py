"""Reading of conformance profiles, for the step ``validate``."""
