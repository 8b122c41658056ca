-- The newest event time among the transactions scored last; null when nothing is scored yet. Imported
-- history lies in the past: pages look back from here, not from now.
select max(timestamp) as at
from (select timestamp from shop.fraud_scores order by scored_at desc limit 200) newest
