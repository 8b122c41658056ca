-- The last check of the logged features against recomputed ones.
select checked_at, rows, jsonb_path_query_array(mismatches, '$[*].feature') as features
from shop.parity_checks where rows > 0 order by id desc limit 1
