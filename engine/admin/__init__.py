"""Seeing and steering: a small JSON API over a running Supervisor, on two doors.

The admin port (loopback by default, ``X-API-Key``) and the local socket ``data/engine.sock`` (mode 0600, no key) speak
the same API; the command line and the dashboard use nothing else. Only ``GET /health`` needs no key;
``GET /metrics`` may have one of its own.

``api.py`` has the routes, ``views.py`` and ``trace.py`` turn rows of the store into JSON, ``answers.py`` holds the one
error shape, ``server.py`` the two doors, ``local.py`` the address of the socket. Content of messages leaves only where
``bodies=1`` asks for it, and each such view is logged with its ids.
"""
