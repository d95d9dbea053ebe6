"""Motion: the path of one message, from a source's hand-over to a partner's answer.

    Supervisor ── one RunningChannel per valid channel file
        RunningChannel ── source → Receiver → Router → Lanes (one per destination) → destination
                       or source → Exchange → destination → reply            (channels with ``reply:``)

Read in this order: ``receive.py`` (commit 1), ``route.py`` (commit 2), ``deliver.py`` (commit 3), then ``exchange.py``
for request/response. ``retry.py`` and ``breaker.py`` are policy without a clock. ``channel.py`` wires one channel, and
``supervisor.py`` owns them all. Nothing here knows a protocol: that is the connectors' business.
"""
