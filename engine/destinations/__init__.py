"""OUT: where messages go. One file per word an admin can write under ``to:``.

``mllp`` (with ``mllp_link``, its kept connections), ``rest``, ``channel``, ``file`` and ``discard``. Each sends one
message and says how that ended; retry, order and back-off are the runtime's. ``base`` says what a destination is; start
there.
"""
