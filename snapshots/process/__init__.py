"""Images of a whole process: one that has imported what takes long is written to a file once, and
others begin from there, in milliseconds and without any rights. See `checkpoint` and `restoring`.
"""
