-- Shares of a time range's transactions without an optional field.
select avg((device is null)::int)::float8 as device, avg((merchant_category is null)::int)::float8 as merchant_category,
       avg((merchant_id is null)::int)::float8 as merchant_id,
       avg((transaction_location is null)::int)::float8 as transaction_location,
       avg((location is null)::int)::float8 as location, avg((latitude is null)::int)::float8 as latitude,
       avg((currency is null)::int)::float8 as currency
from shop.transactions where timestamp >= %(start)s and timestamp < %(end)s
