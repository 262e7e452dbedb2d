"""Write a project with packages named like Turnout's own."""

from pathlib import Path

NAMES = ("streams", "transforms", "forwarders", "deploy")


def write_shadows(folder: Path) -> Path:
    """Write packages `streams`, `deploy` and so on with an attribute `OWNER`, and return the folder."""
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text('OWNER = "the project"\n')
    return folder
