"""Objects of Kubernetes as plain documents, made of frozen values. Nothing here does I/O."""
