"""The door: decode, validate, protect, append; what fails goes to the rejected stream.

May touch: ports, streams, governance, FastAPI.
Never: an adapter, the kernel, a personal value in a log line or an error.
"""
