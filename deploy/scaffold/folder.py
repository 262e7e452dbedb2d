"""Write new configuration folders, and new files in a folder."""

import json
import secrets
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from deploy.config.schema import SCHEMAS

PROJECT = files("deploy.scaffold") / "project"
COMPOSE = files("deploy.image") / "compose.yaml"

SOURCE_NAME, PLAN_NAME = "web", "shop"
"""The source and the plan of a new folder."""

SECRET_BYTES = 24


def write_folder(folder: Path) -> None:
    """Write a folder that runs as it is: settings, a source with a plan, an integration with tests, and secrets.

    Raises FileExistsError if the folder exists and is not empty, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    texts = {
        "turnout.yaml": _read(PROJECT / "turnout.yaml"),
        "integrations/orders.yaml": _read(PROJECT / "integrations" / "orders.yaml"),
        ".gitignore": _read(PROJECT / "gitignore"),
        "compose.yaml": _read(COMPOSE),
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    write_file(folder, "source", SOURCE_NAME, source_file(SOURCE_NAME, PLAN_NAME))
    write_file(folder, "plan", PLAN_NAME, plan_file(PLAN_NAME))
    secret = folder / ".env"
    secret.touch(mode=0o600)
    secret.write_text(_secrets(), encoding="utf-8")


def write_file(folder: Path, kind: str, name: str, text: str) -> Path:
    """Write a new file of a folder, and the schema with which editors check it; returns its path.

    Raises FileExistsError if the folder has the file, and OSError.
    """
    path, schema = folder / f"{kind}s" / f"{name}.yaml", folder / schema_path(kind)
    for parent in (path.parent, schema.parent):
        parent.mkdir(exist_ok=True)
    schema.write_text(json.dumps(SCHEMAS[kind](), indent=2) + "\n", encoding="utf-8")
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return path


def schema_path(kind: str) -> Path:
    """Return the path of a schema in a configuration folder."""
    return Path(".schema", f"{kind}.json")


def schema_comment(kind: str) -> str:
    """Return the first line of a file, by which editors with yaml-language-server find its schema."""
    return f"# yaml-language-server: $schema=../{schema_path(kind).as_posix()}"


def source_file(name: str, plan: str | None) -> str:
    """Return the text of a new source's file; `plan` is its tracking plan."""
    checked = f"plan: {plan}" if plan else "# plan: NAME  # the tracking plan that checks its events"
    return f"""{schema_comment("source")}
# Clients send events with a write key. Several can be valid during a rotation.
source: {name}
write_keys: ['${{{key_variable(name)}}}']
{checked}

# Data that is added to the events.
enrich:
  campaign: {{}}
  user_agent: {{}}
"""


def plan_file(name: str) -> str:
    """Return the text of a new tracking plan."""
    return f"""{schema_comment("plan")}
# Name the plan in a source's file: `plan: {name}`.
# Violations are recorded. To do more, use `omit`, `quarantine` or `reject`, here or for one event.
plan: {name}
on_violation: warn
unplanned_events: warn
unplanned_properties: allow

events:
  - event: Order Completed
    properties:
      required: [order_id, total]
      properties:
        order_id: {{type: string}}
        total: {{type: number, minimum: 0}}
        currency: {{type: string, pattern: '^[A-Z]{{3}}$'}}
"""


def key_variable(source: str) -> str:
    """Return the environment variable of a source's write key."""
    return f"{source.replace('-', '_').upper()}_WRITE_KEY"


def new_secret() -> str:
    """Return a new random text for a key or token."""
    return secrets.token_urlsafe(SECRET_BYTES)


def _secrets() -> str:
    return f"""# Secrets, for `turnout up` and compose.yaml. Not in git: see .gitignore.

# The write key of sources/web.yaml.
{key_variable(SOURCE_NAME)}={new_secret()}
# Where integrations/orders.yaml sends orders: the simulator, until you name your endpoint.
ORDERS_URL=${{SIMULATOR_URL:-http://simulator:8099}}/hooks/orders
# The ledger finds a user's events by digests with this key. With another key it is rebuilt.
TURNOUT_LEDGER__USER_KEY={new_secret()}
# Commands and the ledger of compose.yaml use this token.
LEDGER_TOKEN={new_secret()}
# The password of Grafana's user `admin`, in the profile `observability` of compose.yaml.
GRAFANA_PASSWORD={new_secret()}
"""


def _read(file: Traversable) -> str:
    return file.read_text(encoding="utf-8")
