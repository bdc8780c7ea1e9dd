"""A Kubernetes cluster: what is applied to it, and why something there does not come up."""
