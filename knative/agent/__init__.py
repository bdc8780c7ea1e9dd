"""The node agent: what the pods of one machine share, its disk above all."""
