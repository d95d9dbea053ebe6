"""The parts of the step ``build``, and what differs between HL7 versions.

``definition.py`` reads a declared mapping with all it extends, ``segments.py`` compiles one segment, ``assembly.py``
puts segments in the order of the structure, ``json_body.py`` makes a JSON body; ``version_rules.py`` serves
``convert`` too.
"""
