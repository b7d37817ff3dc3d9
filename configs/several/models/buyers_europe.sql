-- Customers with an order in the last half year who agreed to marketing.
select customer_id, email, first_name, last_name, country
from customers
where last_order_on >= current_date - interval 180 day
  and marketing_consent
  and country in ('AT', 'CH', 'DE', 'ES', 'FR', 'GB', 'IT', 'NL')
