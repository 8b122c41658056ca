-- From which scores on a version decides and what was expected of that, with the alerts of the newest day of payments.
select m.run_id, m.threshold, m.block_threshold, m.metrics -> 'decision_rule' as decision_rule,
       (select jsonb_build_object('day', to_char(day at time zone 'UTC', 'YYYY-MM-DD'), 'alerts', alerts,
                                  'blocks', blocks, 'held_back', held_back)
        from monitoring.alert_days order by day desc limit 1) as alerts_today
from shop.models m where m.version = %s
