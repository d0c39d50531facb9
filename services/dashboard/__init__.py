"""The live dashboard, and a place to be a listener: mounted at `/ui` of the gateway."""

from services.dashboard.attach import attach

__all__ = ["attach"]
