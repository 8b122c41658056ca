-- Stored transactions in the order of their log, for replay: whether the customer is in the sample, the key of the
-- state, then the fields of include.events.transaction.Transaction, without names and e-mail, which no feature uses.
select abs(mod(hashtextextended(user_id, 1), 1000000)) < %(share)s * 1000000,
       hashtextextended(transaction_id, 0), hashtextextended(user_id, 0), topic, partition,
       transaction_id, user_id, timestamp, null, null, null, null, location, transaction_location, amount::float8,
       device, merchant_id, merchant_category, currency, latitude, longitude
from shop.transactions
where timestamp >= %(start)s and timestamp < %(end)s
order by topic, partition, "offset"
