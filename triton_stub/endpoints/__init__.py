"""Doors to a server: bytes on the wire to and from the core's requests and responses."""
