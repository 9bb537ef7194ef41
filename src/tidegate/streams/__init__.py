"""What flows: the Avro schemas with their personal-data marks, and all that is made from them.

Lives here: schemas/*.avsc, the msgspec structs that decode an event, the Arrow schema of a columnar batch, the records
that the engine writes (decisions, alerts, rejected events).
May touch: errors. Never: opens a connection, reads a clock, knows who stores or serves what flows.
"""
