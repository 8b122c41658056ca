-- A user's newest stored transaction, without names.
select transaction_id, timestamp, amount::double precision as amount, currency, merchant_id, merchant_category,
       location, transaction_location, device, latitude, longitude, partition
from shop.transactions where user_id = %(user_id)s order by timestamp desc limit 1
