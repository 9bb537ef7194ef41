"""The fraud desk: live alerts, cases, evidence.

May touch: ports, streams, governance, NiceGUI; sends verdicts through the door over HTTP like anyone else.
Never: an adapter, the kernel.
"""
