"""How models are made: training on what a replay decided, evaluation on what came after.

Lives here: train, evaluate. May touch: hosts, kernel, streams, errors, lightgbm, scikit-learn.
Never: changes what a detector decides, but by the files of its model; never an adapter.
"""
