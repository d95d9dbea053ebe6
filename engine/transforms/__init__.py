"""What changes or drops a message. Each file is one word of ``transform:`` (``base.py`` says what a step is).

``values/`` is what stands on either side of a key, ``building/`` the parts of the step ``build``.
"""
