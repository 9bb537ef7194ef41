"""The commands that have a name of their own: `tidegate detector ...`.

May touch: everything below it. Never: decides anything itself; loads the engine before a command runs.
"""
