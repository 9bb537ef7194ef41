"""What runs the kernel: local (on a log), replay (over files).

May touch: kernel, ports, streams, files. Never: an adapter; anything that would change what the kernel decides.
"""
