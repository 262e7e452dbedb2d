"""Find the line of a rule file that caused a dead letter."""

from deploy.config.integrations import Integration
from transforms.model.nodes import ObjectNode


def find_line(integration: Integration, rule_name: str, detail: str) -> str | None:
    """Return `file:line:column` of the field that the vendor refused, or else of the rule, in today's rules.

    The field is named at the start of a dead letter's detail. Returns None if the integration no longer has the rule.
    """
    rules = integration.rules
    all_rules = (*rules.rules, *([rules.otherwise] if rules.otherwise else []))
    rule = next((rule for rule in all_rules if rule.name == rule_name), None)
    if rule is None:
        return None
    place, node = rule.place, rule.shape
    for step in detail.partition(":")[0].split("."):
        if not isinstance(node, ObjectNode) or step not in node.entries:
            break
        node = node.entries[step]
        place = node.place
    return f"{place.path}:{place.line}:{place.column}"
