select a.account_id, a.account_name, a.website, a.industry, a.country
from crm.accounts as a
where exists (
    select from crm.opportunities as o
    where o.account_id = a.account_id and o.closed_on is null
)
