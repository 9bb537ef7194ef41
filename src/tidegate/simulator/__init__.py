"""A seeded company that plays its day over HTTP through the door.

    company   who and what there is: customers, shops, terminals, articles, fraudsters; all from the seed
    story     how one visit or one fraud becomes events of the streams
    behaviour ordinary life
    fraud     the six kinds of fraud
    day       ordinary life and fraud at a rate, with labels, spoiled events and repeats: a pure function of time
    play      the day, sent to the door

May touch: streams, aiohttp. Never: anything behind the door; a personal value of a real person.
"""
