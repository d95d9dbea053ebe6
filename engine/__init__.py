"""hl7engine: an HL7 v2 integration engine.

Channels are YAML; an asyncio engine runs them; what it acknowledged is delivered, or held where a person can see it.
The folders are floors and imports only go down (see ``[tool.importlinter]`` in pyproject.toml). Start reading at
``engine/runtime/__init__.py``: the path of one message.
"""

__version__ = "0.1.0"
