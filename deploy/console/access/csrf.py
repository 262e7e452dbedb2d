"""Check that state-changing requests come from the console's own pages."""

import hmac
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from deploy.console.access.sessions import Session

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADER = "x-csrf-token"
FIELD = "csrf"

MAX_FORM_BYTES, MAX_FIELDS = 256 * 1024, 2_000


async def read_form(request: Request, max_bytes: int = MAX_FORM_BYTES) -> dict[str, str]:
    """Return the fields of an urlencoded form; raises HTTPException if it is too large or has too many."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HTTPException(413, f"a form may have up to {max_bytes // 1024} KB")
    try:
        return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise HTTPException(400, f"a form may have up to {MAX_FIELDS} fields") from None


def check_csrf(request: Request, form: dict[str, str], session: Session) -> None:
    """Raise HTTPException unless the request carries the session's token, in a header or as a field of the form."""
    given = request.headers.get(HEADER) or form.get(FIELD, "")
    if not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise HTTPException(403, "this form is of another session; load the page again")
