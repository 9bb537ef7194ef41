"""What reads the log and keeps a projection of it: the hot store, the lake.

May touch: ports, streams. Never: the kernel; a write to the log.
"""
