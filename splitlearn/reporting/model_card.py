"""Model card of a model that is loaded by name, from its record."""

from __future__ import annotations

import re
from pathlib import Path

from splitlearn.deploy import PretrainedRecord, opened_pretrained
from splitlearn.files import size_text
from splitlearn.reporting.markdown import markdown_table

SPDX = {"Apache-2.0": "apache-2.0", "BSD-2-Clause": "bsd-2-clause", "BSD-3-Clause": "bsd-3-clause", "MIT": "mit"}
RATE = re.compile(r"rate_(\d+)/(.+)")
SHARES = ("accuracy", "accuracy_top5", "agreement", "map", "miou")  # metrics 0…1, told in per cent


def model_card(source: str | Path, revision: str | None = None) -> str:
    """Return the model card, Markdown with a header for the hub, of a model that `from_pretrained` loads.

    Args:
        source: as for `splitlearn.deploy.from_pretrained`.
        revision: likewise.

    Raises:
        PretrainedError: if there is no such model, or its files cannot be fetched.
    """
    record, path = opened_pretrained(source, revision)
    kept = record.licence.split(",")[0].strip()
    files = [(name, f"{(path.parent / name).stat().st_size:,}") for name in record.files]
    return f"""---
library_name: splitlearn
license: {SPDX.get(kept, "other")}
tags: [split-computing, feature-compression, edge-inference]
---

# {record.name}

{_summary(record)}

```python
from splitlearn.models import from_pretrained

model = from_pretrained("{record.name if str(source) == record.name else "OWNER/" + record.name}")
payloads = model.compress(images)  # float images (B, 3, H, W) in [0, 1] → one payload of bytes for each image
prediction = model.decompress(payloads)  # all that the server needs
```

## Data

{record.data}.

## Figures

{_figures(record)}
Bytes are those of real payloads, headers included, per image; static code tables are sent once with the weights.

## Files

{markdown_table(["file", "bytes"], files)}
SHA-256 of `{record.file}`: `{record.sha256}`

## Licence

{record.licence}.

## How to rebuild

```bash
{record.rebuild}
```
"""


def _summary(record: PretrainedRecord) -> str:
    network = "a network that its user gives" if record.network is None else f"the network `{record.network}`"
    rates = {found[1] for name in record.metrics if (found := RATE.fullmatch(name))}
    if record.file == record.weights:
        return f"Weights of {network} ({size_text(record.size)}), for its images sent as pixels."
    what = f"A bank of {len(rates)} compression rates" if rates else "Compression of the features at a cut"
    return f"{what} for {network} ({size_text(record.size)} beside the network's own weights)."


def _figures(record: PretrainedRecord) -> str:
    """Return the metrics as a table: one row, or one for each rate of a bank."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in record.metrics.items():
        found = RATE.fullmatch(name)
        row, metric = (f"rate {found[1]}", found[2]) if found else (record.name, name)
        rows.setdefault(row, {})[metric] = value
    if not rows:
        return "None are recorded."
    columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    headings = ["", *(f"{each} (%)" if each.split("/")[-1] in SHARES else each for each in columns)]
    return markdown_table(headings, ([name, *(_cell(row, each) for each in columns)] for name, row in rows.items()))


def _cell(row: dict[str, float], metric: str) -> str:
    if metric not in row:
        return "–"
    value = row[metric]
    if metric.split("/")[-1] in SHARES:
        return f"{100 * value:.2f}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}" if value >= 1 else f"{value:.3f}"
