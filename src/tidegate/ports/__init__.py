"""What Tidegate needs from the world, one noun a file: protocols and the plain records that cross them.

Lives here: log, hotstore, lake, keys, identity, audit, snapshots, detectors, models, clock.
May touch: streams, errors. Never: imports an adapter, does any work of its own.
"""
