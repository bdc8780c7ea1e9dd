"""The memory owner: one process a node that holds the host arena and the GPUs' memory."""
