"""Where blocks are computed: on the threads of this process (threads.py), or by workers (cluster.py)."""
