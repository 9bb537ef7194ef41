"""The interface of Confluent's Kafka REST Proxy, v2 and v3: what is produced goes the way of every event, and what is
consumed holds tokens in the place of personal values.
"""
