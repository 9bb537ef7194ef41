"""What reads the log and keeps a projection of it, or tells others: the hot store, the lake, webhooks.

May touch: ports, streams, governance. Never: the kernel; a write to the log, but of how far what is sent was taken.
"""
