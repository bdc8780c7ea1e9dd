"""What Kubernetes' Pod Security Standard "restricted" asks of a container, and a bit more.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from dsfn.knative.manifests.words import Manifest

# The user "nonroot" of images without a shell. An image's own user may have a name alone, and
# then nobody can tell before it starts that it is not root.
_USER = 65532


def restricted() -> Manifest:
    """A container's securityContext: no root, no rights to get, a root directory to read only."""
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
