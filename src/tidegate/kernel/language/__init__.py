"""What analysts write, read and checked: SQL and YAML into typed expressions and plans.

May touch: the streams' schemas, plans, sqlglot, DuckDB's parser.
Never: a value. An expression is a tree until the machine runs it; nothing of a text is evaluated as Python.
"""
