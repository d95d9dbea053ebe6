"""What stands on either side of a key: values on the right, targets on the left, and the conditions of ``where:``.

``value.py`` compiles a value (start there); ``readers.py`` read paths and variables, whose roots are in ``scope.py``;
``formats.py`` and ``times.py`` say how data is written, ``missing.py`` what happens when there is none, ``text.py``
what is HL7 text already, ``sandbox.py`` what a template may do.
"""
