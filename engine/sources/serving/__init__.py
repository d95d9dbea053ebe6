"""What the sources serve with: listeners, connections, checks and answers.

``listener.py`` is the REST listener that all channels of a site share; ``server.py`` runs it (and the admin API) in
this loop, ``ports.py`` opens its port. ``parameters.py`` and ``json_body.py`` check what a caller sends,
``answers.py`` is the one shape of an error. ``mllp_connection.py`` is one sender's connection, ``mllp_acks.py`` what
it is answered and ``mllp_listener.py`` what they share. ``accepting.py`` lets connections of every listener in.
"""
