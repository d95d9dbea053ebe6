"""Where messages come in. Each file is one word of ``source:`` (``base.py`` says what a source is).

What they serve with (listeners, connections, checks, answers) is in ``serving/``.
"""
