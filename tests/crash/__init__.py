"""The crash harness: a real engine is killed with SIGKILL again and again, then every message is accounted for.

``make crash`` runs it for long (``__main__.py``), ``test_crash_harness.py`` for twenty kills. Read ``harness.py``
first: it starts the engine, lets clients and partners work, kills, and asks ``account.py`` what became of each message.

* inside the engine's process: ``launcher.py`` starts it, ``points.py`` kills it at a named step, ``shim.c`` in a write
* around it: ``site.py`` (channels), ``senders.py`` and ``partners.py`` (both ends), ``plan.py`` (what dies when)
"""
