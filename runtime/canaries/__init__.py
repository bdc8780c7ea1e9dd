"""New revisions on trial: a share of the calls, until they are promoted or taken back."""
