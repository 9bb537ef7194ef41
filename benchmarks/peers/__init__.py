"""Each peer as a good user of it would write the work, run in an environment of its own."""
