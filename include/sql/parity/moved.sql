-- Customers in more than one partition: partitions were added, or somebody publishes without their key.
select user_id from shop.fraud_scores group by user_id having min(partition) <> max(partition)
