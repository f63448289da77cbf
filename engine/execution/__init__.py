"""Run passes over blocks: on the threads of this process (threads.py), or on workers (cluster.py)."""
