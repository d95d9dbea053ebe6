"""Load that must not hurt: see ``__main__.py``."""
