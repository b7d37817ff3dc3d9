"""LinkedIn Matched Audiences: an audience is a *DMP segment* of an ad account, members are written through its API.

The API has no sandbox of its own and no way to read members back; facts about it that the code relies on stand beside
the line that needs them.
"""
