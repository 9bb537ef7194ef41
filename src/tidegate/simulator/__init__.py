"""A seeded company that plays its day over HTTP through the door.

May touch: streams, httpx. Never: anything behind the door.
"""
