"""The training loop, alone or as a worker of a cluster."""
