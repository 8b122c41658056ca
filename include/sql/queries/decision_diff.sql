-- The newest comparison of a version's decisions with those that were made.
select at, version, threshold, starts, ends, result from shop.decision_diffs order by id desc limit 1
