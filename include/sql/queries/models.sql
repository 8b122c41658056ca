-- Every registered model version, newest first, with its metrics at training.
select version, run_id, family, threshold, feature_set, trained_from, trained_to, metrics, created_at, sha256,
       block_threshold, capacity
from shop.models
order by version desc
