"""List the screens in the order of the navigation."""

from deploy.console.pages import ConsoleScreen
from deploy.console.screens.catalog import CatalogScreen
from deploy.console.screens.find import FindScreen
from deploy.console.screens.flow import FlowScreen
from deploy.console.screens.health import HealthScreen
from deploy.console.screens.integrations import IntegrationsScreen
from deploy.console.screens.issues import IssuesScreen
from deploy.console.screens.live import LiveScreen
from deploy.console.screens.privacy import PrivacyScreen
from deploy.console.screens.rules import RulesScreen

SCREENS: tuple[type[ConsoleScreen], ...] = (
    FindScreen,
    LiveScreen,
    FlowScreen,
    IssuesScreen,
    IntegrationsScreen,
    RulesScreen,
    CatalogScreen,
    PrivacyScreen,
    HealthScreen,
)
