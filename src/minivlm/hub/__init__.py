"""Model hubs: files pinned by revision, size and sha256, fetched from Hugging Face, a mirror or ModelScope.

Params → pins → `fetch` → folders; names → `resolve` → pins. docs/hub.md tells it from the user's side.
"""

from minivlm.hub.fetching import fetch
from minivlm.hub.pins import Kind, Pin
from minivlm.hub.resolving import resolve

__all__ = ["Kind", "Pin", "fetch", "resolve"]
