"""The identifiers and fields of LinkedIn audiences, as data, and their names in LinkedIn's API.

The limits are LinkedIn's: 35 characters for names, 50 for other texts, 20 for postal codes, 5 for stock symbols, 100
for page addresses, three industries. LinkedIn refuses an element with a longer value.
"""

from __future__ import annotations

from warehouse_sync.fields import AudienceFields, Field, LengthPolicy, Normaliser

COUNTRY = Field("country", Normaliser.COUNTRY)

USER = AudienceFields(
    identifiers=(
        Field("sha256_email", Normaliser.EMAIL, hash="sha256"),
        Field("sha512_email", Normaliser.EMAIL, hash="sha512"),
        Field("google_aid", Normaliser.DEVICE_ID),
    ),
    fields=(
        Field("first_name", Normaliser.TEXT, max_length=35),
        Field("last_name", Normaliser.TEXT, max_length=35),
        Field("title", Normaliser.TEXT, max_length=50),
        Field("company", Normaliser.TEXT, max_length=50),
        COUNTRY,
    ),
)

COMPANY = AudienceFields(
    identifiers=(
        Field("company_name", Normaliser.TEXT),
        Field("company_email_domain", Normaliser.DOMAIN),
        Field("company_website_domain", Normaliser.DOMAIN),
        Field("company_page_url", Normaliser.TEXT, max_length=100, length_policy=LengthPolicy.OMIT),
        Field(
            "organization_urn",
            Normaliser.PREFIXED_NUMBER,
            prefix="urn:li:organization:",
            aliases=("urn:li:organizationUrn:", "urn:li:company:"),
        ),
    ),
    fields=(
        Field("stock_symbol", Normaliser.TEXT, max_length=5, length_policy=LengthPolicy.OMIT),
        Field("industries", Normaliser.TEXT_LIST, max_length=50, max_items=3),
        Field("city", Normaliser.TEXT, max_length=50),
        Field("state", Normaliser.TEXT, max_length=50),
        COUNTRY,
        Field("postal_code", Normaliser.TEXT, max_length=20),
    ),
)

AUDIENCE_FIELDS = {"user": USER, "company": COMPANY}

SEGMENT_TYPES = {"user": "USER", "company": "COMPANY"}
"""LinkedIn's segment types, by our audience types."""

MEMBER_PATHS = {"user": "users", "company": "companies"}
"""The path to the members of a segment, below the segment, by audience type."""

USER_ID_TYPES = {"sha256_email": "SHA256_EMAIL", "sha512_email": "SHA512_EMAIL", "google_aid": "GOOGLE_AID"}
"""The types of a user's identifiers in `userIds`; every other field is a key of the element."""

WIRE_NAMES = {
    "first_name": "firstName",
    "last_name": "lastName",
    "title": "title",
    "company": "company",
    "country": "country",
    "company_name": "companyName",
    "company_email_domain": "companyEmailDomain",
    "company_website_domain": "companyWebsiteDomain",
    "company_page_url": "companyPageUrl",
    "organization_urn": "organizationUrn",
    "stock_symbol": "stockSymbol",
    "industries": "industries",
    "city": "city",
    "state": "state",
    "postal_code": "postalCode",
}
"""The keys of an element, by field."""
