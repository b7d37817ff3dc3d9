"""The sandbox: an HTTP server that implements the contract of LinkedIn's audience API strictly.

LinkedIn offers no sandbox. Tests, the demo and users' CI run against this one. It does not depend on the rest of
warehouse_sync, so that it is an independent witness of what was sent.
"""

from warehouse_sync.sandbox.faults import Fault
from warehouse_sync.sandbox.members import Reading
from warehouse_sync.sandbox.sandbox import Sandbox
from warehouse_sync.sandbox.settings import SandboxSettings

__all__ = ["Fault", "Reading", "Sandbox", "SandboxSettings"]
