"""Databases that a site's steps ask: one file per kind, the declared query, and the bounded threads that run it.

``statement.py`` reads the query, ``sqlite.py`` and ``postgresql.py`` ask, ``pool.py`` bounds; ``base.py`` has the words
they share. Used by ``query_database``.
"""
