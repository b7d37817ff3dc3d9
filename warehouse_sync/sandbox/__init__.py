"""A LinkedIn of your own: an HTTP server that keeps the contract of LinkedIn's audience API strictly.

LinkedIn offers no sandbox. Tests, the demo and a user's CI run against this one. It knows nothing of the rest of
warehouse_sync, so that it can bear witness to what was really sent.
"""

from warehouse_sync.sandbox.faults import Fault
from warehouse_sync.sandbox.members import Reading
from warehouse_sync.sandbox.sandbox import Sandbox
from warehouse_sync.sandbox.settings import SandboxSettings

__all__ = ["Fault", "Reading", "Sandbox", "SandboxSettings"]
