"""Connections that destinations keep open between messages."""
