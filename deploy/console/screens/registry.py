"""The screens, in the order of the navigation."""

from deploy.console.pages import ConsoleScreen
from deploy.console.screens.find import FindScreen
from deploy.console.screens.flow import FlowScreen
from deploy.console.screens.health import HealthScreen

SCREENS: tuple[type[ConsoleScreen], ...] = (FindScreen, FlowScreen, HealthScreen)
