"""Who may do what.

May touch: ports, streams, errors. Never: an adapter or a screen.
"""
