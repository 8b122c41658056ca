-- How many alerts were raised after a time.
select count(*) as alerts from shop.fraud_alerts where created_at > %(since)s
