"""Messages that other systems send of their own accord: who signed them, what event is in them, where it goes."""
