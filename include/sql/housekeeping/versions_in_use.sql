-- Which of some versions score now, or gave alerts that are still there.
select model_version
from shop.stream_leases
where model_version = any(%(versions)s)
union
select model_version
from shop.fraud_alerts
where model_version = any(%(versions)s)
