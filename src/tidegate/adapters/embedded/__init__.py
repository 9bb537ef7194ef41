"""The embedded defaults: SQLite, local files, PyIceberg on a local folder. Same nouns, same file names as ports/.

May touch: the local disk. Never: the network.
"""
