"""Commands of `dsfn` that are about a cluster."""
