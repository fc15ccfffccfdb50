"""What the site does beyond Sphinx: it writes the generated pages, links names in code, and lets tutorials run."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from scripts.documentation.commands import command_names, write_commands
from scripts.documentation.configs import write_configs
from scripts.documentation.messages import write_messages
from scripts.documentation.reference import write_reference

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"splitlearn [a-z]+\b")
START_KERNEL = "import os, sys; os.chdir({folder!r}); sys.path.insert(0, {folder!r}); " + (
    "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
)


def setup(app: Any) -> dict[str, bool]:
    """Connect to the steps of a build; Sphinx calls this."""
    app.connect("builder-inited", _write_pages)
    app.connect("builder-inited", _offer_kernel)
    app.connect("doctree-resolved", _link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_pages(app: Any) -> None:
    docs = Path(app.srcdir)
    write_reference(docs / "api")
    write_messages(docs / "api/messages.md")
    write_configs(docs / "api/configs.md")
    write_commands(docs / "commands")


def _offer_kernel(app: Any) -> None:
    """Let the code of tutorials run in this Python, in the project's folder, as readers run it."""
    folder = Path(app.doctreedir) / "jupyter"
    spec = folder / "kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    start = START_KERNEL.format(folder=str(ROOT))
    words = [sys.executable, "-c", start, "-f", "{connection_file}", "--log-level=ERROR"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    about = {"argv": words, "display_name": "Python 3", "language": "python", "env": environment}
    spec.write_text(json.dumps(about))
    os.environ["JUPYTER_PATH"] = str(folder)


def _link_names(app: Any, doctree: Any, docname: str) -> None:
    """Let each public name and command that stands as code in a text lead to its place in the reference."""
    from docutils import nodes

    places = _places(app)
    for node in list(doctree.findall(nodes.literal)):
        page, anchor = places.get(_named(node.astext()), ("", ""))
        if page in ("", docname if not anchor else "") or isinstance(node.parent, (nodes.reference, nodes.title)):
            continue
        uri = app.builder.get_relative_uri(docname, page) + (f"#{anchor}" if anchor else "")
        link = nodes.reference("", "", internal=True, refuri=uri)
        node.replace_self(link)
        link.append(node)


def _named(code: str) -> str:
    """Return the command or name that code begins with: `splitlearn fit` of `splitlearn fit --config …`."""
    command = COMMAND.match(code)
    return command[0] if command else code.split("(")[0]


def _places(app: Any) -> dict[str, tuple[str, str]]:
    """Return page and anchor of commands, and of the public names that cannot be taken for plain words."""
    found = {f"splitlearn {name}": (f"commands/{name}", "") for name in command_names()}
    for full, item in sorted(app.env.domains["py"].objects.items(), key=lambda pair: pair[0].count(".")):
        name = full.split(".")[-1]
        is_word = name.islower() and "_" not in name and name not in ("split", "unpack")
        if full.count(".") == 2 and not is_word:
            found.setdefault(name, (item.docname, item.node_id))
        found.setdefault(full, (item.docname, item.node_id))
    return found
