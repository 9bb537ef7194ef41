"""Which ids a topic holds, as far as it is known: the newest ones. Kafka has no index of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from tidegate.ports.log import Record

#: Ids kept of a topic, some 20 MB: a source that got no answer sends again within seconds or minutes.
_KEPT = 100_000

#: (partition, offset)
Place = tuple[int, int]


class Ids:
    """By topic. `newest` reads a topic's newest records, when an id of it is first asked for."""

    def __init__(self, newest: Callable[[str], Iterable[Record]]) -> None:
        self._newest = newest
        self._places: dict[str, OrderedDict[str, Place]] = {}

    def find(self, topic: str, record_id: str) -> Place | None:
        return self._of(topic).get(record_id)

    def add(self, topic: str, record_id: str, place: Place) -> None:
        places = self._of(topic)
        places[record_id] = place
        if len(places) > _KEPT:
            places.popitem(last=False)

    def forget(self, topic: str, partition: int, before: int) -> None:
        """With its record an id goes."""
        places = self._places.get(topic, {})
        for record_id in [each for each, (at, offset) in places.items() if at == partition and offset < before]:
            del places[record_id]

    def _of(self, topic: str) -> OrderedDict[str, Place]:
        places = self._places.get(topic)
        if places is None:
            places = self._places[topic] = OrderedDict()
            for record in self._newest(topic):
                if record.id is not None:
                    places.setdefault(record.id, (record.partition, record.offset))
        return places
