"""A function's options as the annotations of Knative's pod autoscaler.

Source: https://knative.dev/docs/serving/autoscaling/
"""

from __future__ import annotations

from dsfn.functions.options import Options
from dsfn.knative.manifests.words import seconds_of

# What the autoscaler takes.
MIN_WINDOW_S = 6.0
MAX_RETENTION_S = 3600.0
# Over which it averages when nothing else is said.
_USUAL_WINDOW_S = 60.0
# What it usually aims at is 70 % of what a pod takes: two pods for a single call of those that take
# one, which start side by side while the call waits for the first.
_ONE_A_POD = {"autoscaling.knative.dev/target-utilization-percentage": "100"}


def autoscaling(options: Options) -> dict[str, str]:
    """How many pods there may be, and when the last one goes.

    A pod without calls goes `remove_after` after the last one: the window over which the
    autoscaler averages makes the start of that time, its retention of the last pod the rest.
    """
    window_s = min(max(options.remove_after_s, MIN_WINDOW_S), _USUAL_WINDOW_S)
    retention_s = min(max(options.remove_after_s - window_s, 0.0), MAX_RETENTION_S)
    return {
        "autoscaling.knative.dev/min-scale": str(options.min_replicas),
        "autoscaling.knative.dev/max-scale": str(options.max_replicas),
        "autoscaling.knative.dev/window": seconds_of(round(window_s)),
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": seconds_of(
            round(retention_s)
        ),
        **(_ONE_A_POD if options.concurrency == 1 else {}),
    }
