"""What happens in which order: MATCH_RECOGNIZE compiled to an automaton, and the engine that runs it.

May touch: the language, the machine, the arrays of its own state.
Never: a clock. What does not happen in time is told by the times of events.
"""
