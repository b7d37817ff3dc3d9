"""The rows of table `people` and their changes: SQL for both engines that gives the same rows each time.

    id  email  first_name  last_name  title  company  country  gaid

A row takes about 150 bytes. All addresses are different, so that each row is one member. One address in fifty has
capital letters and a leading space; one row in three has an advertising id.
"""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = ("id", "email", "first_name", "last_name", "title", "company", "country", "gaid")

FIRST_NAMES = (
    "Alexander|Anna|Benjamin|Camille|Charlotte|Christopher|Daniel|Elena|Elizabeth|Emma|Felix|Gabriel|Hannah|Ines|"
    "Isabella|Jakob|Johanna|Jonathan|Jürgen|Katarzyna|Laura|Leon|Lucía|Magdalena|Maria|Matthew|Max|Maximilian|Mia|"
    "Mohammed|Nathalie|Nicholas|Noah|Olga|Oliver|Patrick|Penelope|Quentin|Rebecca|Samuel|Sarah|Sebastian|Sofia|Stefan|"
    "Theodore|Thomas|Valentina|Victoria|William|Zoé"
)
LAST_NAMES = (
    "Anderson|Bauer|Bernard|Blackwood|Brown|Castellano|Chen|Dubois|Eriksson|Fernández|Fischer|Garcia|Gonzalez|Green|"
    "Hernandez|Hoffmann|Ivanov|Jackson|Jansen|Johnson|Kim|Kowalczyk|Kumar|Lee|Lopez|Martin|Martinez|Meyer|Miller|Moore|"
    "Müller|Nguyen|O'Brien|Patel|Peterson|Rodriguez|Rossi|Santos|Schmidt|Silva|Smith|Taylor|Thompson|Vandenberg|Wagner|"
    "Walker|Weber|Williams|Wilson|Zimmermann"
)
TITLES = (
    "Account Executive|Accountant|Business Analyst|Chief Executive Officer|Chief Information Officer|Consultant|"
    "Customer Success Manager|Data Engineer|Director of Marketing|Finance Manager|Head of Procurement|"
    "Human Resources Manager|Marketing Manager|Operations Manager|Owner|Product Manager|Project Manager|"
    "Regional Sales Director|Sales Manager|Senior Software Engineer|Software Engineer|Solutions Architect|"
    "Supply Chain Manager|System Administrator|Team Lead|Vice President of Sales"
)
COMPANIES = "Acme|Aurora|Beacon|Cascade|Cobalt|Evergreen|Granite|Harbor|Keystone|Lumen|Meridian|Northwind|Orchard"
BRANCHES = "Analytics|Consulting|Energy|Foods|Health|Industries|Insurance|Logistics|Media|Retail|Software"
FORMS = "AG|GmbH|Inc.|Ltd.|PLC|S.A.|SE"
COUNTRIES = "AT|AU|BE|BR|CA|CH|DE|DK|ES|FI|FR|GB|IE|IN|IT|JP|MX|NL|NO|NZ|PL|PT|SE|SG|US"
DOMAINS = "example.com|example.org|mail.example.net|corp.example.com|customers.example.co.uk"


@dataclass(frozen=True)
class Churn:
    """The changes since the previous run.

    Attributes:
        name: The share of changed rows, or "first" when there was no run before.
        rows: The number of rows.
    """

    name: str
    rows: int

    @property
    def first(self) -> bool:
        """Whether there was no run before."""
        return self.name == "first"

    @property
    def share(self) -> float:
        """The share of changed rows, from 0 to 1."""
        return 1.0 if self.first else float(self.name)

    @property
    def period(self) -> int:
        """The number of rows of which one is replaced and one is changed."""
        return round(2 / self.share) if self.share else 0

    @property
    def replaced(self) -> int:
        """The number of people that are replaced by new ones."""
        if self.first or not self.share:
            return 0
        return self.rows if self.share == 1 else self.rows // self.period

    @property
    def changed(self) -> int:
        """The number of people that have a new title."""
        if self.first or not self.share or self.share == 1:
            return 0
        half = self.period // 2
        return (self.rows - half) // self.period + 1 if self.rows >= half else 0

    @property
    def adds(self) -> int:
        """The number of ADDs."""
        return self.rows if self.first else self.replaced + self.changed

    @property
    def removes(self) -> int:
        """The number of REMOVEs."""
        return self.replaced

    @property
    def statements(self) -> list[str]:
        """The SQL that makes these changes in a table that `fill` created."""
        if self.first or not self.share:
            return []
        if self.share == 1:
            return ["DELETE FROM people", f"INSERT INTO people {people(self.rows + 1, 2 * self.rows)}"]
        new_people = people(self.rows + 1, self.rows + self.replaced)
        return [
            f"DELETE FROM people WHERE id % {self.period} = 0",
            f"INSERT INTO people {new_people}",
            f"UPDATE people SET title = 'Retired' WHERE id <= {self.rows} AND id % {self.period} = {self.period // 2}",
        ]


def fill(rows: int) -> list[str]:
    """Return the SQL that creates table `people` with this number of rows."""
    return [
        "CREATE TABLE people (id bigint, email varchar, first_name varchar, last_name varchar, title varchar, "
        "company varchar, country varchar, gaid varchar)",
        f"INSERT INTO people {people(1, rows)}",
    ]


def people(first: int, last: int) -> str:
    """Return a SELECT of the people with these numbers."""
    names = f"{_one_of(FIRST_NAMES, 7, 3)} AS first_name, {_one_of(LAST_NAMES, 13, 1)} AS last_name"
    company = f"{_one_of(COMPANIES, 1, 0)} || ' ' || {_one_of(BRANCHES, 1, 5)} || ' ' || {_one_of(FORMS, 1, 2)}"
    address = f"lower(last_name) || '.' || i || '@' || {_one_of(DOMAINS, 1, 4)}"
    return (
        f"SELECT i, CASE WHEN i % 50 = 17 THEN ' ' || upper({address}) ELSE {address} END, first_name, last_name, "
        f"{_one_of(TITLES, 11, 0)}, {company}, {_one_of(COUNTRIES, 3, 0)}, "
        "CASE WHEN i % 3 = 1 THEN substr(device, 1, 8) || '-' || substr(device, 9, 4) || '-' || substr(device, 13, 4) "
        "|| '-' || substr(device, 17, 4) || '-' || substr(device, 21, 12) END "
        f"FROM (SELECT i, md5('device' || i) AS device, {names} FROM generate_series({first}, {last}) AS numbers(i)) "
        "AS generated"
    )


def _one_of(texts: str, factor: int, offset: int) -> str:
    """Return SQL that selects one of several texts, separated by bars, by the number of the person."""
    parts = texts.split("|")
    quoted = ", ".join("'" + part.replace("'", "''") + "'" for part in parts)
    return f"(ARRAY[{quoted}])[1 + (i * {factor} + i % 1009 + {offset}) % {len(parts)}]"
