"""Tracking plans: which events are meant to come, what must be in them, and what becomes of those that differ."""

from streams.steps.plan.model import Plan, PlannedEvent
from streams.steps.plan.step import PlanStep

__all__ = ["Plan", "PlanStep", "PlannedEvent"]
