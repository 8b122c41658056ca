-- Stored transactions in the order of their log, for replay: the fields of include.transaction.Transaction.
select transaction_id, user_id, timestamp, first_name, last_name, full_name, email, location,
       transaction_location, amount::float8, device, merchant_id, merchant_category, currency, latitude, longitude,
       topic, partition
from shop.transactions
where timestamp >= %(start)s and timestamp < %(end)s
  and abs(mod(hashtextextended(user_id, 1), 1000000)) < %(share)s * 1000000
order by topic, partition, "offset"
