"""Numbers of the models of a sweep's points, for conditions such as `device_macs < 5e6`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from splitlearn.analysis import device_macs
from splitlearn.config.build import instantiated, plain
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.models import CutModel
from splitlearn.sweep.space import Value


@dataclass(frozen=True)
class PointNumbers:
    """Returns the numbers of a point's model; can be sent to other processes.

    Attributes:
        trial: builds the model of a point.
    """

    trial: ConfigTrial
    _found: dict[str, Mapping[str, float] | None] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, values: Mapping[str, Value]) -> Mapping[str, float] | None:
        """Return parameters and multiply–accumulates of a point's model, or None if it cannot be built.

        Points that differ in other parts of the config, such as the rate weight, have the same model and are built
        once.
        """
        settings = self.trial.parse(values)
        key = json.dumps(plain(settings)["model"].get("init_args", {}).get("model"), sort_keys=True, default=str)
        if key not in self._found:
            try:
                task = instantiated(settings, ("model",)).model
            except Exception:  # constructors may raise anything; the trial reports it
                self._found[key] = None
            else:
                self._found[key] = numbers_of(task.model)
        return self._found[key]


def numbers_of(model: Any) -> dict[str, float]:
    """Return what `model.complexity()` counts, by name, and `device_macs`: those of head and encoders together.

    A model without bottlenecks has no numbers; one that takes images of any size has no `device_macs`.
    """
    found = getattr(model, "complexity", lambda: None)()
    numbers = {} if found is None else {name: float(value) for name, value in asdict(found).items()}
    if isinstance(model, CutModel) and not model.net.by_image:
        numbers["device_macs"] = float(device_macs(model))
    return numbers
