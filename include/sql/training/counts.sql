-- How much there is in a time range: transactions, and those whose logged features are of this set.
select (select count(*) from shop.transactions t where t.timestamp >= %(start)s and t.timestamp < %(end)s),
       (select count(*) from shop.fraud_scores s
        where s.timestamp >= %(start)s and s.timestamp < %(end)s
          and s.feature_set = %(feature_set)s and cardinality(s.features) = %(width)s)
