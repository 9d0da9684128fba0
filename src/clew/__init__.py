"""Distributed tracing for Python that reaches all the way through Tor."""
