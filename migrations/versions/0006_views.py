"""Let the changes of a run be a view of its snapshot, which earlier releases cannot drop.

No table changes. The new version number keeps workers of earlier releases away, which would fail at the end of a run.
"""

from __future__ import annotations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change no table."""
