"""One face over several Tritons: the stub in this process, the real server, a URL."""
