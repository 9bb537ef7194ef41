"""ASOF joins: tables of versions fed by streams, looked up as of an event's own time.

May touch: plans, the machine, the arrays of its own state.
Never: a version that has not arrived.
"""
