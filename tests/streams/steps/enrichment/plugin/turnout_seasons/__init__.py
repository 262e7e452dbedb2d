from streams.events import Event
from streams.steps.enrichment.contract import Enrich, Enrichment, Settings
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch


class SeasonSettings(Settings):
    """The hemisphere of the seasons."""

    southern: bool = False
    """Use the seasons of the southern hemisphere."""


def make(settings: SeasonSettings, files: Files) -> Enrich:
    """Fill in `context.season`."""

    def name_season(event: Event) -> Patch | None:
        month = str(event.get("timestamp"))[5:7]
        if not month.isdigit():
            return None
        summer = 4 <= int(month) <= 9
        return {"context": {"season": "summer" if summer is not settings.southern else "winter"}}

    return name_season


SEASON = Enrichment("season", SeasonSettings, make)
