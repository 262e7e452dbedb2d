from deploy.config.configuration import read_configuration
from deploy.docsgen.reference import DOCS


def test_the_plan_in_the_documentation_can_be_used(tmp_path):
    """The files that plans.md shows make a configuration without mistakes."""
    for block in (DOCS / "plans.md").read_text().split("```yaml\n# ")[1:]:
        name, _, text = block.partition("\n")
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.partition("```")[0])
    (tmp_path / "turnout.yaml").write_text("{}")
    steps = read_configuration(tmp_path).sources.by_name("web").steps
    assert "plan" in [step.name for step in steps]
