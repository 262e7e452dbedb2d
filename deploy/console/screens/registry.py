"""The screens, in the order of the navigation."""

from deploy.console.pages import ConsoleScreen
from deploy.console.screens.find import FindScreen

SCREENS: tuple[type[ConsoleScreen], ...] = (FindScreen,)
