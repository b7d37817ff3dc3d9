"""LinkedIn Matched Audiences: an audience is a *DMP segment* of an ad account, and the API writes its members.

The API has no test environment and cannot read members back. Facts about it are stated beside the code that relies on
them.
"""
