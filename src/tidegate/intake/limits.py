"""What the door takes at most, and why."""

from __future__ import annotations

#: Largest request. Some events of the largest kind, or a thousand usual ones: what one core checks within 100 ms.
MAX_BODY_BYTES = 4 * 1_048_576

#: Largest event: five times what the largest usual ones have, 400 KB. In the log it is small: its own fields have texts
#: of up to MAX_TEXT_CHARS, and all else is sealed and claimed.
MAX_EVENT_BYTES = 2 * 1_048_576

#: Largest outbound message of Salesforce: a hundred notifications of 10 KB. XML is read ten times as slow as JSON.
MAX_XML_BYTES = 1_048_576

#: Events in one request: about 50 ms of one core, so that one request holds no other up for long.
MAX_EVENTS = 1_000

#: Objects and arrays within each other. No event of the company nests deeper than three; a bomb does.
MAX_DEPTH = 32

#: A body that takes longer is a slow client, wilful or not: it may not hold a connection open.
BODY_TIMEOUT_S = 10

#: A stream of records may be silent for so long: longer than its source's own batches take, shorter than the hour for
#: which a connection that is lost is held open.
STREAM_IDLE_S = 60

#: Bodies that are being read, checked or written at one time, all requests together: about a second of work. More than
#: this is told to come again, so that those who are in are answered in time.
MAX_BYTES_IN_FLIGHT = 16 * MAX_BODY_BYTES

#: What a source is told to wait when the door is full: the time to work off what is in.
RETRY_AFTER_S = 1

#: Events that one commit of the log takes. A larger group saves nothing more: the sync is shared by hundreds already.
MAX_GROUP_EVENTS = 1_000

#: Threads that check and protect. Two are enough for all cores that Python uses; the others wait for a remote key
#: service in their stead.
PREPARING_THREADS = 4

#: The door's company has no older events; what says so has a wrong clock or a wrong unit.
MIN_EVENT_TIME_US = 946_684_800_000_000  # 2000-01-01T00:00:00Z

#: Sources in every time zone and with a clock that is off by hours are taken; a wrong unit or year is not.
MAX_AHEAD_US = 24 * 3600 * 1_000_000

#: How often the `decisions` topic is read: while a request waits, and otherwise, only to remember what was decided.
WAITED_POLL_S = 0.002
IDLE_POLL_S = 0.1

#: Decisions that the door keeps in memory, for those who ask before the hot store has them: minutes of a busy day.
DECISIONS_KEPT = 10_000

#: Sign-ins at one time: each takes 100 ms of a core and 32 MiB.
SIGN_INS_AT_ONCE = 2

#: One address may try this many passwords at once, and one more each SIGN_IN_EVERY_S.
SIGN_IN_BURST = 10
SIGN_IN_EVERY_S = 6

#: Memory of a process that decodes a file: some chunks of the widest rows. What wants more is made to want it.
MAX_WORKER_BYTES = 2 << 30

#: Processes that decode at most: each goes through the whole file.
MAX_WORKERS = 8

#: Largest file that is fetched from an address.
MAX_FETCH_BYTES = 64 << 30

#: Fields of a GraphQL operation within each other. Ours nest three deep, the introspection that tools send twelve.
MAX_QUERY_DEPTH = 15

#: Names that a GraphQL operation gives to fields: more would be many requests in one.
MAX_QUERY_ALIASES = 20

#: Words of a GraphQL document. An event of twenty fields that stands in it is eighty; many belong into variables.
MAX_QUERY_TOKENS = 5_000

#: What a GraphQL operation may cost: a field 1, an event that it sends 1, a decision that it waits for 100, each as
#: often as it is asked for. So it may send as many events as a request of REST, or wait for some twenty decisions.
MAX_QUERY_COST = 2_000

#: GraphQL subscriptions at one time: each reads the log ten times a second.
MAX_SUBSCRIPTIONS = 50

#: Consumers of the Kafka REST Proxy at one time, and of one principal: each is some positions in memory.
MAX_CONSUMERS = 1_000
MAX_CONSUMERS_EACH = 100

#: A consumer that is not asked for so long is gone, as Confluent's `consumer.instance.timeout.ms` has it.
CONSUMER_IDLE_S = 300

#: How long a poll waits for records: what it is told to, and at most.
POLL_TIMEOUT_MS = 5_000
MAX_POLL_TIMEOUT_MS = 30_000

#: How often a poll that waits looks for records.
POLL_EVERY_S = 0.05

#: Records, and bytes of keys and values, that one poll is answered with at most.
MAX_POLL_RECORDS = 1_000
MAX_POLL_BYTES = 1_048_576
