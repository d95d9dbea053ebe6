"""Where messages come in. Each file that is a word of ``source:`` is one connector (``base.py`` says what one is).

The others serve them: ``http.py`` is the listener that all REST channels of a site share (``http_server.py`` runs it),
``parameters.py`` and ``json_body.py`` check what a caller sends, ``answers.py`` is the one shape of an error, and
``mllp_connection.py`` with ``mllp_acks.py`` is one sender's connection.
"""
