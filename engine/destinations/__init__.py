"""Where messages go. Each file that is a word of ``to:`` is one connector (``base.py`` says what one is).

``mllp_link.py`` keeps the connections of the ``mllp`` destination.
"""
