"""Find errors in a tracking plan that its model does not check, with line and column."""

from collections.abc import Iterator

from deploy.config.diagnostics import Place, hint_at
from streams.steps.plan import Plan
from streams.steps.plan.schemas import find_issues
from transforms import RuleError
from transforms.documents import Document


def check_plan(document: Document, plan: Plan) -> Iterator[RuleError]:
    """Yield the errors in a plan's schemas, and entries that another entry hides."""
    for name, schema in plan.definitions.items():
        yield from _check_schema(document, plan, schema, ("definitions", name))
    first: dict[tuple[str, str | None], int] = {}
    for index, planned in enumerate(plan.events):
        at: Place = ("events", index)
        before = first.setdefault((planned.type, planned.event or planned.name), index)
        if before != index:
            line = document.where("events", before)[0]
            yield document.error(f"the event {planned.label} is planned twice, first on line {line}", at=at)
        for part, schema in planned.schemas.items():
            yield from _check_schema(document, plan, schema, (*at, part))


def _check_schema(document: Document, plan: Plan, schema: object, at: Place) -> Iterator[RuleError]:
    for issue in find_issues(schema, plan.definitions):
        place = (*at, *issue.place)
        hint = issue.hint or (hint_at(issue.given, issue.known) if issue.known else None)
        where = document.where_key if issue.of_key else document.where
        yield RuleError(issue.message, hint, *where(*place), document.path)
