"""The live dashboard, mounted at `/ui` of the gateway; one of its pages makes a person a listener."""

from botify.services.dashboard.attach import attach

__all__ = ["attach"]
