"""The Flink host: the kernel in Flink's keyed state, a key a detector, between Kafka's topics.

    Kafka -> micro-batches (JVM) -> shard, keyed by detector (Python) -> records (JVM) -> Kafka, exactly once

What decides knows nothing of Flink: `shard`, on a state that Flink keeps. `job` alone imports pyflink, which has an
environment of its own; `cluster` speaks to a Flink cluster from anywhere.

May touch: as the other hosts. Never: an adapter; pyflink outside of `job`.
"""
