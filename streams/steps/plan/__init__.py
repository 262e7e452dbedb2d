"""Tracking plans: the expected events, their schemas, and how violations are handled."""

from streams.steps.plan.model import Plan, PlannedEvent
from streams.steps.plan.step import PlanStep

__all__ = ["Plan", "PlanStep", "PlannedEvent"]
