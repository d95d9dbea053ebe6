"""What changes or drops a message. Each file that is a word of ``transform:`` is one step (``base.py``: what one is).

The others serve them. ``values.py`` (with ``readers.py``, ``scope.py``, ``formats.py``, ``times.py``, ``missing.py``,
``text.py`` and ``sandbox.py``) compiles what stands on the right of a key, ``targets.py`` what stands on the left,
``conditions.py`` a ``where:``. ``definition.py``, ``segments.py``, ``assembly.py`` and ``json_body.py`` are the parts
of ``build``, and ``version_rules.py`` what differs between HL7 versions.
"""
