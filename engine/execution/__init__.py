"""Where blocks are computed: on the threads of this process (local.py), or by workers (cluster.py)."""
