-- Adds the transactions that raised an alert.
insert into shop.flagged (topic, partition, generation, "offset", transaction_id, timestamp, amount, country, category,
    currency, device, merchant_id, score, is_alert, model_version)
select topic, partition, generation, "offset", transaction_id, timestamp, amount, country, category, currency, device,
       merchant_id, score, is_alert, model_version
from fresh where is_alert
