"""Server as an application of Ray Serve: `serve run multihead.serving.ray:build source=…`; needs the package ray.

Each replica is a whole server: the same interfaces, page and metrics. Ray starts more replicas under load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import UnsupportedOption
from .app import build_app
from .models.defaults import default_models
from .settings_file import settings_from

OPTIONS = ("autoscaling_config", "max_ongoing_requests", "num_replicas", "ray_actor_options")


def build(arguments: Mapping[str, Any]) -> Any:
    """Return an application for `ray.serve.run`.

    Args:
        arguments: settings as in the config file of `multihead serve` (models, max_queue, …); and options of the
            deployment: autoscaling_config, max_ongoing_requests, num_replicas, ray_actor_options.

    Raises:
        UnsupportedOption: ray is not installed, or a setting is not known. InvalidInput: a value is wrong.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise UnsupportedOption('Ray Serve needs the package ray: pip install "ray[serve]".') from error
    entries = {name: value for name, value in arguments.items() if name not in OPTIONS}
    settings = settings_from(entries, origin="The arguments")
    if not settings.models:
        settings = replace(settings, models=tuple(default_models()))
    settings.check()  # here, where the error is seen, and not in a replica

    def app() -> Any:
        return build_app(settings)

    class MultiheadServer:
        """One replica."""

    deployment: Any = serve.deployment(**{name: arguments[name] for name in OPTIONS if name in arguments})
    ingress: Any = serve.ingress(app)
    return deployment(ingress(MultiheadServer)).bind()
