select customer_id, email, given_name, family_name, country
from crm.customers
where newsletter and not opted_out
