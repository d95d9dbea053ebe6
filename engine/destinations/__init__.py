"""Where messages go. Each file is one word of ``to:`` (``base.py`` says what a destination is).

Connections that are kept between messages are in ``connections/``.
"""
