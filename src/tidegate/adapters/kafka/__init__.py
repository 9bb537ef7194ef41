"""Apache Kafka, and what speaks its protocol: Amazon MSK, Redpanda, Event Hubs. Same nouns, same file names as ports/.

May touch: the network, through confluent-kafka. Never: the local disk, but for the certificates that settings name.
"""
