"""From here on the changes of a run may be a view of its snapshot. Earlier releases could not drop that.

Nothing has to be made: the version alone keeps their workers away, who would fail at the end of each run.
"""

from __future__ import annotations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No table changes."""
