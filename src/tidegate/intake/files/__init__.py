"""Files that are taken whole, exactly once by file and row, by processes of their own; and a mapping for a new one."""
