"""Makes ``engine/hl7/standard/VERSION.json`` from the tables of hl7apy and the lengths of hl7-dictionary.

``python -m tools.standard`` writes them, ``--check`` only compares. What the sources have wrong is put right in
``corrections.py``, one entry and one reason each; ``lengths.js`` made ``lengths.json``.
"""
