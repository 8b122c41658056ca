-- The time before which a transaction without a label counts as not fraud.
select monitoring.labels_settled_until() as at
