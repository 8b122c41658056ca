-- Per UTC day: precision, recall and average precision of the scores against the settled labels, with counts.
select * from monitoring.daily_performance(%(since)s, %(until)s) order by day
