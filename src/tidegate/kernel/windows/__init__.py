"""The window engine: exact sliding windows by event time over row logs, one for each entity.

May touch: plans, the machine's compiling, hashing and tables, the arrays of its own state.
Never: a text or an expression. All it knows are keys and integers.
"""
