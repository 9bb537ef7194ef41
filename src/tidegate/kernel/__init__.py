"""What decides: SQL compiled into expressions and windows, rules, scoring, decisions, snapshots.

Lives here: pure functions and state of events. May touch: streams, errors, numpy, numba, pyarrow, sqlglot.
Never: a clock, a file, a socket, randomness, a log line. The same events give the same bits everywhere.
"""
