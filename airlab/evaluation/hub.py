"""Is a hub there? Benchmarks of the harness need one; local tasks never do."""

import os
import urllib.error
import urllib.request

from airlab.errors import UserError

TIMEOUT_S = 5.0


def require_hub(
    what: str = "evaluation=paper downloads its benchmarks", instead: str = "use evaluation=local"
) -> None:
    """Raise `UserError` when the Hugging Face hub is switched off or cannot be reached."""
    advice = f"{instead}, or run where the hub can be reached"
    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(switch, "").lower() in ("1", "true", "yes", "on"):
            raise UserError(f"{what} from the Hugging Face hub, and {switch} switches the hub off: {advice}")
    from huggingface_hub.constants import ENDPOINT  # honours HF_ENDPOINT

    request = urllib.request.Request(ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return  # it answers: it is there
    except OSError as error:
        raise UserError(
            f"{what} from the Hugging Face hub, which cannot be reached from here: {advice}"
        ) from error
