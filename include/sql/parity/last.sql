-- The last check of a feature set that compared anything, and whether the newest logged vector is of that set.
select (select s.feature_set = %(feature_set)s from shop.fraud_scores s order by s.scored_at desc limit 1) as logged,
       c.checked_at, c.mismatches
from (select) one
left join lateral (
    select checked_at, mismatches from shop.parity_checks
    where feature_set = %(feature_set)s and rows > 0 order by id desc limit 1) c on true
