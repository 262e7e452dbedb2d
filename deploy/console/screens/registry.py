"""The screens, in the order of the navigation."""

from deploy.console.pages import Screen
from deploy.console.screens.find import FindScreen

SCREENS: tuple[type[Screen], ...] = (FindScreen,)
