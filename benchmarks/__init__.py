"""What the engine does in a second, and what that costs, measured beside references in the same run.

``make bench`` is ``python -m benchmarks``: every row of ``rows/`` one after the other, a table, and a JSON file that
README and ``docs/figures.md`` are written from (``report.py``). ``processes.py`` starts what is measured, each thing
in a process of its own; ``finding.py`` is what a row finds; ``load/`` holds the load generator, the sink and the
counter of fsyncs in C, ``references/`` what the engine is compared with. ``soak/`` measures load that must not hurt,
``ten_million.py`` a store of years.
"""
