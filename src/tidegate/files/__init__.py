"""What files hold: their formats, and the mappings that make a stream's events out of their rows.

May touch: streams, the kernel's language, pyarrow, fastavro, DuckDB.
Never: the log, the keys, a network, a value of a row in an error.
"""
