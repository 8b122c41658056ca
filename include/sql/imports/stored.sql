-- The stored transactions with these ids.
select {columns} from shop.transactions t where t.transaction_id = any(%(ids)s)
