"""Ports made real, one place a folder: embedded (runs on a laptop).

May touch: ports, governance, streams, errors and the place's own client library. Never: another adapter, a room above.
"""
