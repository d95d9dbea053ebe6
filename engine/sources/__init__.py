"""IN: where messages come from. One file per word an admin can write under ``source:``.

``mllp`` (with ``mllp_connection``, ``mllp_acks``, ``mllp_tls``), ``rest`` (with ``parameters``, ``json_body``) and
``channel``. REST sources of a site share one listener: ``http`` (with ``http_server``). ``answers`` renders what
callers of REST channels are told, ``listening`` opens sockets, ``base`` says what a source is; start there.
"""
