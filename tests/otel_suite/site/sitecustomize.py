"""Python runs this when it starts, also in the processes that the foreign tests start themselves."""

from __future__ import annotations

import os

if os.environ.get("CLEW_OTEL_SUITE") == "clew":
    import substitute  # type: ignore[import-not-found] # it is beside this one

    substitute.install()
